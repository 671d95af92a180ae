import type { ReportPeriod } from '../../config/index.ts'
import type { Queryable } from '../../platform/db.ts'
import { CaretakerError, sqlState } from '../../platform/errors.ts'

/** What a report is about. `from` is in it, `to` is not; without a period both are the slot itself. */
export interface ReportWindow {
  slot: Date
  from: Date
  to: Date
  timezone: string
  /** Names the window in file names: 2026-10, 2026-Q3, 2026-W43, 2026-10-31, and hours by UTC, in which none comes twice. */
  label: string
}

const labels: Record<ReportPeriod, string> = {
  hour: `to_char(w."from" at time zone 'UTC', 'YYYY-MM-DD"T"HH24MI"Z"')`,
  day: `to_char(w."from" at time zone $3::text, 'YYYY-MM-DD')`,
  week: `to_char(w."from" at time zone $3::text, 'IYYY"-W"IW')`,
  month: `to_char(w."from" at time zone $3::text, 'YYYY-MM')`,
  quarter: `to_char(w."from" at time zone $3::text, 'YYYY"-Q"Q')`,
  year: `to_char(w."from" at time zone $3::text, 'YYYY')`,
}

/**
 * The last complete period that ended at or before `slot`, in the calendar of `timezone`. PostgreSQL computes it: it
 * knows the zones the report's own SQL will use, and a day of 23 or 25 hours is a day. A period is found from its end by
 * cutting the moment before it, so that each begins exactly where the one before it ends.
 */
export async function reportWindow(db: Queryable, slot: Date, period: ReportPeriod | undefined, timezone: string): Promise<ReportWindow> {
  if (period === undefined) return { slot, from: slot, to: slot, timezone, label: slot.toISOString().replace(/[-:]|\.\d+/g, '') }
  const [row] = await db
    .query<{ from: Date; to: Date; label: string }>(
      `select w."from", w."to", ${labels[period]} as label
       from (select date_trunc($2::text, e."to" - interval '1 microsecond', $3::text) as "from", e."to"
             from (select date_trunc($2::text, $1::timestamptz, $3::text) as "to") e) w`,
      [slot, period, timezone],
    )
    .catch((error: unknown) => {
      // 22023: invalid parameter value; the period is one of ours.
      if (sqlState(error) !== '22023') throw error
      const message = `found "${timezone}", expected an IANA time zone such as "Europe/Berlin"`
      throw new CaretakerError('policy_invalid', `app.timezone: ${message}.`, { cause: error, issues: [{ path: 'app.timezone', message }] })
    })
  if (row === undefined) throw new Error('no period')
  return { slot, ...row, timezone }
}
