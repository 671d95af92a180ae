import { CaretakerError } from '../platform/errors.ts'
import { unreadable } from '../platform/written-text.ts'

/** One of the conditions of a silence: `component=stripe`, `rule=backup-*`, `region=eu`. */
export interface Matcher {
  /** `rule`, `component`, `severity`, or a label of the rule's series. `any` is rule or component. */
  key: string
  /** `*` stands for any characters. */
  pattern: string
}

/** What a silence is held against. */
export interface Matchable {
  rule: string
  component: string
  severity: string
  labels: Readonly<Record<string, string>>
}

/**
 * `component=stripe,severity=P3`; a word alone is the name of a rule or of a component.
 * @throws {CaretakerError} `invalid_input` naming the part that is not one
 */
export function parseMatchers(text: string): Matcher[] {
  const wrong = unreadable(text)
  if (wrong !== undefined)
    throw new CaretakerError('invalid_input', `matcher: found ${wrong}, expected a rule, a component, or key=value pairs joined by commas.`)
  const parts = text.split(',').map((part) => part.trim())
  return parts.map((part) => {
    const match = /^(?:([A-Za-z_][A-Za-z0-9_]{0,62})=)?([^=,\s][^=,]{0,199})$/.exec(part)
    if (match === null)
      throw new CaretakerError(
        'invalid_input',
        `matcher: found "${part.slice(0, 60)}", expected a rule or component such as "stripe", or key=value pairs joined by commas such as "component=stripe,severity=P3".`,
      )
    const [, key = 'any', pattern] = match as unknown as [string, string | undefined, string]
    return { key, pattern }
  })
}

export function showMatchers(matchers: readonly Matcher[]): string {
  return matchers.map(({ key, pattern }) => (key === 'any' ? pattern : `${key}=${pattern}`)).join(',')
}

/** Whether every matcher holds. */
export function matchesAll(matchers: readonly Matcher[], alert: Matchable): boolean {
  return matchers.every(({ key, pattern }) => {
    const found =
      key === 'any'
        ? [alert.rule, alert.component]
        : key === 'rule' || key === 'component' || key === 'severity'
          ? [alert[key]]
          : [Object.hasOwn(alert.labels, key) ? alert.labels[key] : undefined]
    return found.some((value) => value !== undefined && fits(pattern, value))
  })
}

/** Walks both once: a pattern of many stars costs no more than its length times the value's. */
function fits(pattern: string, value: string): boolean {
  const parts = pattern.split('*')
  const [first = '', ...rest] = parts
  if (!value.startsWith(first)) return false
  if (rest.length === 0) return value === first
  const last = rest.pop() as string
  let at = first.length
  for (const part of rest) {
    const found = value.indexOf(part, at)
    if (found === -1) return false
    at = found + part.length
  }
  return value.length - last.length >= at && value.endsWith(last)
}
