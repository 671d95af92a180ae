import { canonicalName } from '../../config/index.ts'
import { systemClock } from '../../platform/clock.ts'
import type { Context } from '../../platform/context.ts'
import { environmentOf } from '../../platform/environment.ts'
import type { CauseCode } from '../causes.ts'
import { policyChecks } from '../check.ts'
import { type HistoryStatus, whole } from './status.ts'

/** One day (UTC) of one check: seconds of each status, and what its answers took. */
export interface HealthDay {
  up: number
  down: number
  maintenance: number
  unknown: number
  /** Milliseconds, of the looks that found it up. */
  p50: number | null
  p95: number | null
}

/** How a check stands and how it went. */
export interface CheckHistory {
  /** Canonical name. */
  check: string
  kind: string
  critical: boolean
  status: HistoryStatus
  cause: CauseCode | undefined
  since: Date | null
  durationMs: number | null
  /** Oldest first; null for a day of which nothing is stored. */
  days: (HealthDay | null)[]
  uptime: Uptime | null
}

/** In percent: if all unknown time was down, and if all of it was up. Announced maintenance is left out. */
export interface Uptime {
  atLeast: number
  atMost: number
}

export interface StatusHistory {
  now: Date
  /** The first day, at midnight UTC. */
  from: Date
  /** The app as a whole: down while a critical check is. */
  whole: CheckHistory
  /** Every check of the policy, in its order. */
  checks: CheckHistory[]
}

interface Stored extends Record<string, unknown> {
  now: Date
  check: string | null
  status: HistoryStatus
  cause: string | null
  since: Date
  validUntil: Date
  durationMs: number | null
  /** Days ago, seconds up, down, in maintenance, unknown, p50, p95. */
  days: [number, number, number, number, number, number | null, number | null][] | null
}

/** How every check of the policy stands and went in the last `days` days, today among them. One query. */
export async function statusHistory(ctx: Context, { days }: { days: number }): Promise<StatusHistory> {
  const rows = await ctx.db.query<Stored>(
    `with clock as (select coalesce($3::timestamptz, clock_timestamp()) as now)
     select clock.now, s.check_name as "check", s.status, s.cause, s.since, s.valid_until as "validUntil", s.duration_ms as "durationMs",
       -- json, not jsonb: nothing looks inside of it here, and it is made in half the time.
       (select json_agg(json_build_array((clock.now at time zone 'UTC')::date - d.day, d.up_s::int, d.down_s::int,
           d.maintenance_s::int, d.unknown_s::int, d.p50_ms, d.p95_ms))
        from caretaker.health_days d
        where d.environment = s.environment and d.check_name = s.check_name
          and d.day > (clock.now at time zone 'UTC')::date - $2::int and d.day <= (clock.now at time zone 'UTC')::date) as days
     from clock left join caretaker.health_states s on s.environment = $1::text`,
    [environmentOf(ctx), days, ctx.clock === systemClock ? null : ctx.clock.now()],
  )
  const now = rows[0]?.now ?? ctx.clock.now()
  const stored = new Map(rows.map((row) => [row.check, row]))
  const history = (check: string, kind: string, critical: boolean) => historyOf(stored.get(check), { check, kind, critical }, now, days)
  return {
    now,
    from: new Date(startOfDay(now).getTime() - (days - 1) * 86_400_000),
    whole: history(whole, 'whole', true),
    checks: policyChecks(ctx.config, ctx.env).map((check) =>
      history(canonicalName(check.name), canonicalName(check.policy.kind ?? check.name), check.critical),
    ),
  }
}

function historyOf(
  row: Stored | undefined,
  known: Pick<CheckHistory, 'check' | 'kind' | 'critical'>,
  now: Date,
  count: number,
): CheckHistory {
  const days = Array.from({ length: count }, (): HealthDay | null => null)
  for (const [ago, up, down, maintenance, unknown, p50, p95] of row?.days ?? [])
    days[count - 1 - ago] = { up, down, maintenance, unknown, p50, p95 }
  const uptime = uptimeOf(days)
  if (row === undefined) return { ...known, status: 'unknown', cause: undefined, since: null, durationMs: null, days, uptime }
  const stale = row.validUntil < now
  return {
    ...known,
    status: stale ? 'unknown' : row.status,
    cause: stale ? undefined : ((row.cause ?? undefined) as CauseCode | undefined),
    since: stale ? row.validUntil : row.since,
    durationMs: row.durationMs,
    days,
    uptime,
  }
}

/** Midnight UTC. */
export function startOfDay(at: Date): Date {
  return new Date(Math.floor(at.getTime() / 86_400_000) * 86_400_000)
}

/** Of whole days or parts of them; null where nothing was watched. Rounded so that no outage is rounded away. */
function uptimeOf(days: readonly (HealthDay | null)[]): Uptime | null {
  let [up, down, unknown] = [0, 0, 0]
  for (const day of days) {
    up += day?.up ?? 0
    down += day?.down ?? 0
    unknown += day?.unknown ?? 0
  }
  const total = up + down + unknown
  if (total === 0) return null
  const percent = (seconds: number) => Math.floor((seconds / total) * 100_000) / 1_000
  return { atLeast: percent(up), atMost: percent(up + unknown) }
}
