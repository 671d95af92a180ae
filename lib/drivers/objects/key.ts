import { CaretakerError } from '../../platform/errors.ts'

const alphabet = /^[A-Za-z0-9._=-]+$/
/** S3 takes 1,024 bytes, prefix included; file systems 255 a name. */
const longestKey = 900
const longestSegment = 200

/**
 * Refuses what is not a key in every store: relative, of `[A-Za-z0-9._=-]` segments between single slashes, none of
 * them `.` or `..`. The message says what is wrong without repeating the key, which may hold somebody's file name.
 * @throws {CaretakerError} `invalid_input`
 */
export function checkKey(key: string): void {
  const problem = keyProblem(key)
  if (problem !== undefined) throw new CaretakerError('invalid_input', `key: ${problem}.`)
}

/** True for what a store may list: files that others left in it are not objects of ours. */
export function isKey(key: string): boolean {
  return keyProblem(key) === undefined
}

function keyProblem(key: string): string | undefined {
  if (key === '') return 'it is empty; expected a relative path such as "backups/2026-11-21/manifest.json"'
  if (key.length > longestKey) return `it has ${key.length} characters; expected at most ${longestKey}`
  if (key.startsWith('/')) return 'it starts with a slash; expected a relative path'
  for (const segment of key.split('/')) {
    if (segment === '') return 'it has an empty segment; expected single slashes between names, and none at the end'
    if (segment === '.' || segment === '..') return `it has a segment "${segment}"; expected names only`
    if (segment.length > longestSegment) return `it has a segment of ${segment.length} characters; expected at most ${longestSegment}`
    if (!alphabet.test(segment))
      return `it has the character ${JSON.stringify(oddCharacter(segment))}; expected only A-Z a-z 0-9 . _ = - and slashes`
  }
  return undefined
}

function oddCharacter(segment: string): string {
  for (const character of segment) if (!alphabet.test(character)) return character
  return ''
}

/**
 * Refuses what cannot begin a key. `''` lists everything; a prefix may end anywhere, also in the middle of a name.
 * @throws {CaretakerError} `invalid_input`
 */
export function checkPrefix(prefix: string): void {
  if (prefix === '') return
  // Completed to a whole key: "a/" and "a/b" begin one, "../", "/a" and "a//" do not.
  const problem = keyProblem(`${prefix}x`)
  if (problem !== undefined) throw new CaretakerError('invalid_input', `prefix: ${problem}.`)
}

export interface Range {
  start: number
  end: number
}

/** @throws {CaretakerError} `invalid_input` for what is not `0 <= start <= end`. */
export function checkRange(range: Range): void {
  const whole = Number.isSafeInteger(range.start) && Number.isSafeInteger(range.end)
  if (!whole || range.start < 0 || range.end < range.start)
    throw new CaretakerError('invalid_input', `range: found ${range.start} to ${range.end}; expected whole numbers with 0 <= start <= end.`)
}
