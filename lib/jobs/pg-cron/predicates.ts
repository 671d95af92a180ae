import { durationMs, isDuration } from '../../config/index.ts'
import { cut, type Statement, says, type Token } from './tokens.ts'

/** A condition as a retention rule has it: an age, a condition, or both. */
export interface Condition {
  column?: string
  olderThan?: string
  where?: string
  /** What is not quite the same as it was. */
  note?: string
}

const dayMs = 86_400_000

/**
 * A condition such as `created_at < now() - interval '30 days' and done` taken apart. An age under a day stays a condition:
 * a rule of its own may not be so young.
 * @param parts what the condition joins with AND
 */
export function readCondition(parts: readonly Statement[]): Condition {
  const ages = parts.map((part) => readAge(part.tokens))
  const at = ages.findIndex((age) => age !== null && durationMs(age.olderThan) >= dayMs)
  const rest = parts.filter((_, index) => index !== at).map((part) => part.sql)
  const where = rest.length === 0 ? {} : { where: rest.join(' and ') }
  const age = ages[at]
  return age === null || age === undefined
    ? where
    : { column: age.column, olderThan: age.olderThan, ...where, ...(age.note === undefined ? {} : { note: age.note }) }
}

/** What a condition joins with AND, outside of parentheses; the whole where OR or BETWEEN stands beside it. */
export function conjuncts(condition: Statement): Statement[] {
  const parts: Statement[] = []
  let depth = 0
  let from = 0
  for (const [at, token] of condition.tokens.entries()) {
    if (token.kind === 'sign') depth += '(['.includes(token.text) ? 1 : ')]'.includes(token.text) ? -1 : 0
    if (depth !== 0 || token.kind !== 'word') continue
    if (token.text === 'or' || token.text === 'between') return [condition]
    if (token.text === 'and') {
      parts.push(cut(condition, from, at))
      from = at + 1
    }
  }
  return [...parts, cut(condition, from)]
}

interface Age {
  column: string
  olderThan: string
  note?: string
}

/** `column < now() - interval '…'` and the ways to say the same. */
function readAge(tokens: readonly Token[]): Age | null {
  const column = readColumn(tokens, 0)
  if (column !== null) {
    // column < now() - interval
    if (says(tokens, column.next, '<') || says(tokens, column.next, '<=')) {
      const now = readNow(tokens, column.next + 1)
      if (now !== null && says(tokens, now.next, '-')) return ageOf(column.name, readInterval(tokens, now.next + 1), tokens, now.note)
    }
    // column + interval < now()
    if (says(tokens, column.next, '+')) {
      const interval = readInterval(tokens, column.next + 1)
      if (interval === null || !(says(tokens, interval.next, '<') || says(tokens, interval.next, '<='))) return null
      const now = readNow(tokens, interval.next + 1)
      return now === null ? null : ageOf(column.name, { ...interval, next: now.next }, tokens, now.note)
    }
  }
  const now = readNow(tokens, 0)
  if (now !== null && says(tokens, now.next, '-')) {
    // now() - column > interval
    const younger = readColumn(tokens, now.next + 1)
    if (younger !== null && (says(tokens, younger.next, '>') || says(tokens, younger.next, '>=')))
      return ageOf(younger.name, readInterval(tokens, younger.next + 1), tokens, now.note)
    // now() - interval > column
    const interval = readInterval(tokens, now.next + 1)
    if (interval !== null && (says(tokens, interval.next, '>') || says(tokens, interval.next, '>='))) {
      const older = readColumn(tokens, interval.next + 1)
      return older === null ? null : ageOf(older.name, { ...interval, next: older.next }, tokens, now.note)
    }
  }
  // age(column) > interval
  if (says(tokens, 0, 'age', '(')) {
    const aged = readColumn(tokens, 2)
    if (aged !== null && says(tokens, aged.next, ')') && (says(tokens, aged.next + 1, '>') || says(tokens, aged.next + 1, '>=')))
      return ageOf(aged.name, readInterval(tokens, aged.next + 2), tokens, fromMidnight)
  }
  return null
}

const fromMidnight = 'it counted from midnight, the rule counts from now'

function ageOf(
  column: string,
  interval: { text: string; next: number } | null,
  tokens: readonly Token[],
  note: string | undefined,
): Age | null {
  if (interval === null || interval.next !== tokens.length) return null
  const olderThan = durationOf(interval.text)
  return olderThan === null ? null : { column, olderThan, ...(note === undefined ? {} : { note }) }
}

function readColumn(tokens: readonly Token[], at: number): { name: string; next: number } | null {
  const token = tokens[at]
  if (token?.kind !== 'word' && token?.kind !== 'quoted') return null
  if (token.kind === 'word' && (nows.has(token.text) || token.text === 'interval' || says(tokens, at + 1, '('))) return null
  if (says(tokens, at + 1, '.')) return null
  return { name: token.text, next: at + 1 }
}

const nows = new Set([
  'now',
  'current_timestamp',
  'localtimestamp',
  'current_date',
  'clock_timestamp',
  'transaction_timestamp',
  'statement_timestamp',
])

function readNow(tokens: readonly Token[], at: number): { next: number; note?: string } | null {
  const token = tokens[at]
  if (token?.kind !== 'word' || !nows.has(token.text)) {
    // (now() at time zone 'utc')
    if (!says(tokens, at, '(')) return null
    const inner = readNow(tokens, at + 1)
    if (inner === null || !says(tokens, inner.next, 'at', 'time', 'zone')) return null
    const zone = tokens[inner.next + 3]
    const closes = zone?.kind === 'string' && /^(utc|gmt)$/i.test(zone.text) && says(tokens, inner.next + 4, ')')
    return closes ? { ...inner, next: inner.next + 5 } : null
  }
  if (token.text === 'current_date') return { next: at + 1, note: fromMidnight }
  if (says(tokens, at + 1, '(', ')')) return { next: at + 3 }
  return token.text.startsWith('current_') || token.text === 'localtimestamp' ? { next: at + 1 } : null
}

/** `interval '30 days'`, `interval '30' day`, `'30 days'::interval`, `make_interval(days => 30)`. */
function readInterval(tokens: readonly Token[], at: number): { text: string; next: number } | null {
  const [first, second, third] = tokens.slice(at, at + 3)
  if (says(tokens, at, 'interval') && second?.kind === 'string') {
    if (third?.kind === 'word' && /^(second|minute|hour|day|week|month|year)$/.test(third.text))
      return { text: `${second.text} ${third.text}`, next: at + 3 }
    return { text: second.text, next: at + 2 }
  }
  if (first?.kind === 'string' && says(tokens, at + 1, '::', 'interval')) return { text: first.text, next: at + 3 }
  if (says(tokens, at, 'make_interval', '(') && says(tokens, at + 3, '=', '>') && says(tokens, at + 6, ')'))
    return { text: `${tokens[at + 5]?.text} ${tokens[at + 2]?.text}`, next: at + 7 }
  return null
}

const units: readonly [RegExp, string][] = [
  [/^(s|secs?|seconds?)$/, 'second'],
  [/^(m|mins?|minutes?)$/, 'minute'],
  [/^(h|hrs?|hours?)$/, 'hour'],
  [/^(d|days?)$/, 'day'],
  [/^(w|weeks?)$/, 'week'],
  [/^(mons?|months?)$/, 'month'],
  [/^(y|yrs?|years?)$/, 'year'],
]

/** PostgreSQL's interval as the policy writes it; null for one of several units. */
function durationOf(interval: string): string | null {
  const [, count, unit = ''] = /^\s*(\d+)\s*([a-z]+)\s*$/i.exec(interval) ?? []
  const name = units.find(([pattern]) => pattern.test(unit.toLowerCase()))?.[1]
  if (count === undefined || name === undefined) return null
  const text = `${Number(count)} ${name}${Number(count) === 1 ? '' : 's'}`
  return isDuration(text) ? text : null
}
