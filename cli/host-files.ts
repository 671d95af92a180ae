import { readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Job } from '../lib/jobs/index.ts'
import { netlifySchedule, type Plan, type Platform, vercelCrons } from '../lib/jobs/index.ts'
import { CaretakerError } from '../lib/platform/errors.ts'

/** What a host's file says of schedules, and what it should say. */
export interface HostFile {
  /** From the project's folder on. */
  file: string
  text: string
  wanted: string
  /** Lines that go and lines that come, with `-` and `+` before them. */
  difference: string[]
  notes: string[]
}

/**
 * The host's file with the schedules of the policy in it, and everything else as it is.
 * @throws {CaretakerError} `invalid_input` when the file is not there or not what it should be
 */
export async function hostFile(project: string, platform: Platform, plan: Plan, jobs: readonly Job[]): Promise<HostFile> {
  const file = platform === 'vercel' ? 'vercel.json' : 'netlify/functions/tick.ts'
  const text = await readFile(join(project, file), 'utf8').catch((cause: unknown) => {
    throw new CaretakerError('invalid_input', `There is no ${file} in ${project}. --project names the folder that is deployed.`, { cause })
  })
  if (platform === 'netlify') {
    const wanted = withNetlifySchedule(text, netlifySchedule, file)
    return { file, text, wanted, difference: differenceOf(text, wanted), notes: [] }
  }
  const { crons, notes } = vercelCrons(jobs, plan)
  const wanted = withCrons(text, crons, file)
  return { file, text, wanted, difference: differenceOf(text, wanted), notes }
}

/** Writes beside the file and renames: a reader sees the old text or the new. */
export async function writeHostFile(project: string, { file, wanted }: HostFile): Promise<void> {
  const path = join(project, file)
  await writeFile(`${path}.new`, wanted)
  await rename(`${path}.new`, path)
}

/**
 * Netlify reads this line without running it: a literal, typed by annotation. `satisfies`, a constant or a call there loses
 * the schedule without a word.
 */
export function withNetlifySchedule(text: string, schedule: string, file: string): string {
  const literal = `export const config: Config = { schedule: '${schedule}' }`
  const start = /^export const config\b/m.exec(text)?.index
  if (start === undefined) return `${text.trimEnd()}\n\n${literal}\n`
  const open = text.indexOf('{', start)
  const close = open < 0 ? -1 : endOf(text, open)
  if (close < 0) throw new CaretakerError('invalid_input', `${file}: \`config\` is not an object that can be read.`)
  const rest = /^[^\n]*/.exec(text.slice(close))?.[0] ?? ''
  return `${text.slice(0, start)}${literal}${text.slice(close + rest.length)}`
}

/** A JSON document with another value for its own key "crons"; all else stays, spaces included. */
export function withCrons(text: string, crons: readonly { path: string; schedule: string }[], file: string): string {
  const parsed = parseObject(text, file)
  if (JSON.stringify(parsed.crons) === JSON.stringify(crons)) return text
  const indent = /\n([ \t]+)"/.exec(text)?.[1] ?? '  '
  const value = JSON.stringify(crons, null, indent).replaceAll('\n', `\n${indent}`)
  const member = memberOf(text, 'crons')
  if (member !== null) return `${text.slice(0, member.start)}${value}${text.slice(member.end)}`
  const close = text.lastIndexOf('}')
  const body = text.slice(0, close).trimEnd()
  return `${body}${body.endsWith('{') ? '' : ','}\n${indent}"crons": ${value}\n${text.slice(close)}`
}

function parseObject(text: string, file: string): Record<string, unknown> {
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch (cause) {
    throw new CaretakerError('invalid_input', `${file} is not JSON: ${cause instanceof Error ? cause.message : 'it cannot be read'}.`, {
      cause,
    })
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed))
    throw new CaretakerError('invalid_input', `${file}: expected a JSON object.`)
  return parsed as Record<string, unknown>
}

/** Where the value of a key of the outermost object is. The text is known to be JSON. */
function memberOf(text: string, key: string): { start: number; end: number } | null {
  let depth = 0
  for (let at = 0; at < text.length; at++) {
    const char = text[at]
    if (char === '{' || char === '[') depth++
    else if (char === '}' || char === ']') depth--
    else if (char === '"') {
      const end = endOfString(text, at)
      if (depth === 1 && JSON.parse(text.slice(at, end)) === key && /^\s*:/.test(text.slice(end))) {
        const start = end + (/^\s*:\s*/.exec(text.slice(end))?.[0].length ?? 0)
        return {
          start,
          end: '{['.includes(text[start] ?? '') ? endOf(text, start) : start + (/^[^,}\s]+/.exec(text.slice(start))?.[0].length ?? 0),
        }
      }
      at = end - 1
    }
  }
  return null
}

/** The index after the bracket that closes the one at `open`; -1 where none does. */
function endOf(text: string, open: number): number {
  let depth = 0
  for (let at = open; at < text.length; at++) {
    const char = text[at] as string
    if (char === '"' || char === "'") at = endOfString(text, at) - 1
    else if ('{['.includes(char)) depth++
    else if ('}]'.includes(char) && --depth === 0) return at + 1
  }
  return -1
}

function endOfString(text: string, open: number): number {
  for (let at = open + 1; at < text.length; at++) {
    if (text[at] === '\\') at++
    else if (text[at] === text[open]) return at + 1
  }
  return text.length
}

/** The lines that differ between two texts, which have their beginnings and their ends in common. */
function differenceOf(before: string, after: string): string[] {
  const old = before.split('\n')
  const now = after.split('\n')
  const table = lengths(old, now)
  const lines: string[] = []
  for (let i = 0, j = 0; i < old.length || j < now.length; ) {
    if (i < old.length && j < now.length && old[i] === now[j]) {
      i++
      j++
    } else if (j < now.length && (i >= old.length || (table[i]?.[j + 1] ?? 0) > (table[i + 1]?.[j] ?? 0))) lines.push(`+${now[j++]}`)
    else lines.push(`-${old[i++]}`)
  }
  return lines
}

/** The length of the longest common subsequence of what follows each pair of lines. */
function lengths(old: readonly string[], now: readonly string[]): number[][] {
  const table = Array.from({ length: old.length + 1 }, () => new Array<number>(now.length + 1).fill(0))
  for (let i = old.length - 1; i >= 0; i--)
    for (let j = now.length - 1; j >= 0; j--)
      (table[i] as number[])[j] =
        old[i] === now[j] ? (table[i + 1]?.[j + 1] ?? 0) + 1 : Math.max(table[i + 1]?.[j] ?? 0, table[i]?.[j + 1] ?? 0)
  return table
}
