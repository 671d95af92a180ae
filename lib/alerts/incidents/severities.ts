import { durationMs, type Policy, type SeverityPolicy } from '../../config/index.ts'
import { defaultSeverities } from '../../config/schema/incidents.ts'
import type { Queryable } from '../../platform/db.ts'
import { CaretakerError, sqlState } from '../../platform/errors.ts'

export type Impact = 'critical' | 'major' | 'minor' | 'none'

/** One line of the severity matrix, with everything that the policy left to the default. */
export interface Severity {
  name: string
  /** 0 for the most severe. */
  rank: number
  description: string | null
  impact: Impact
  public: boolean
  respondWithin: string | null
  escalateAfter: string | null
  notify: readonly string[] | 'all'
  escalateTo: readonly string[] | 'all'
}

const impacts: readonly Impact[] = ['critical', 'major', 'minor', 'none']

/** The severity matrix, the most severe first. */
export function severityMatrix(config: Pick<Policy, 'incidents'>): Severity[] {
  return Object.entries(config.incidents?.severities ?? defaultSeverities).map(([name, policy], rank) => resolved(name, policy, rank))
}

function resolved(name: string, policy: SeverityPolicy, rank: number): Severity {
  return {
    name,
    rank,
    description: policy.description ?? null,
    impact: policy.impact ?? impacts[rank] ?? 'none',
    public: policy.public ?? false,
    respondWithin: policy.respondWithin ?? null,
    escalateAfter: policy.escalateAfter ?? null,
    notify: policy.notify ?? 'all',
    escalateTo: policy.escalateTo ?? (policy.escalateAfter === undefined ? [] : 'all'),
  }
}

/**
 * The severity of that name. One that has left the policy since counts as the most severe, so that nothing becomes
 * quieter by a change of names.
 */
export function severityOf(config: Pick<Policy, 'incidents'>, name: string): Severity {
  const matrix = severityMatrix(config)
  return matrix.find((one) => one.name === name) ?? { ...(matrix[0] as Severity), name }
}

/** @throws {CaretakerError} `invalid_input` for a name that is not in the policy */
export function knownSeverity(config: Pick<Policy, 'incidents'>, name: string, field: string): Severity {
  const matrix = severityMatrix(config)
  const found = matrix.find((one) => one.name.toLowerCase() === name.toLowerCase())
  if (found !== undefined) return found
  const known = matrix.map((one) => one.name).join(', ')
  throw new CaretakerError('invalid_input', `${field}: found "${name}", expected one of ${known}.`, {
    issues: [{ path: field, message: `found "${name}", expected one of ${known}` }],
  })
}

export interface Timers {
  respondBy: Date | null
  /** Equal to the instant it was counted from where it is at once. */
  escalateAt: Date | null
}

/** By when somebody has to respond, and when more are told, counted from `from`. */
export async function timersOf(db: Queryable, config: Policy, severity: Severity, from: Date): Promise<Timers> {
  const { respondWithin, escalateAfter } = severity
  const respondBy =
    respondWithin === null
      ? null
      : respondWithin === 'next business day'
        ? await nextBusinessDay(db, config, from)
        : after(from, respondWithin)
  if (escalateAfter === 'immediately') return { respondBy, escalateAt: from }
  if (escalateAfter !== null) return { respondBy, escalateAt: after(from, escalateAfter) }
  const someone = severity.escalateTo === 'all' || severity.escalateTo.length > 0
  return { respondBy, escalateAt: someone ? respondBy : null }
}

function after(from: Date, duration: string): Date {
  return new Date(from.getTime() + durationMs(duration))
}

const weekdays = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'] as const

/** When the business hours of the first business day after today end. PostgreSQL computes it: it knows the zones. */
async function nextBusinessDay(db: Queryable, config: Policy, from: Date): Promise<Date> {
  const {
    days = weekdays.slice(0, 5),
    until = '17:00',
    timezone = config.app.timezone ?? 'UTC',
    holidays = [],
  } = config.incidents?.businessHours ?? {}
  const [row] = await db
    .query<{ at: Date }>(
      `select (d::date + $3::time) at time zone $2::text as at
       from generate_series(($1::timestamptz at time zone $2::text)::date + 1, ($1::timestamptz at time zone $2::text)::date + 366, interval '1 day') d
       where extract(isodow from d)::int = any($4::int[]) and d::date <> all($5::date[])
       order by d limit 1`,
      [from, timezone, until, days.map((day) => weekdays.indexOf(day) + 1), holidays],
    )
    .catch((error: unknown) => {
      // 22023: invalid parameter value, which only the zone can be.
      if (sqlState(error) !== '22023') throw error
      const message = `found "${timezone}", expected an IANA time zone such as "Europe/Berlin"`
      throw new CaretakerError('policy_invalid', `incidents.businessHours.timezone: ${message}.`, { cause: error })
    })
  // A year of holidays leaves no business day: then the time is a week.
  return row?.at ?? new Date(from.getTime() + 604_800_000)
}
