import { appendAudit } from '../platform/audit.ts'
import type { Context } from '../platform/context.ts'
import type { Queryable, Row, Transaction } from '../platform/db.ts'
import { environmentOf } from '../platform/environment.ts'
import { CaretakerError } from '../platform/errors.ts'
import { longestReason, writtenTitle } from '../platform/written-text.ts'
import { type Matcher, matchesAll, parseMatchers, showMatchers } from './matchers.ts'

export interface Silence extends Row {
  id: string
  matchers: Matcher[]
  reason: string
  createdBy: unknown
  createdAt: Date
  endsAt: Date
  /** Ended by hand; null while it was not. */
  endedAt: Date | null
}

const columns = `id::text as id, matchers, reason, created_by as "createdBy", created_at as "createdAt", ends_at as "endsAt", ended_at as "endedAt"`

/** A silence is for hours: what is to be quiet for longer is a rule to change. */
const longestMs = 30 * 86_400_000

/**
 * Keeps alerts that match from opening incidents for a time. What fires meanwhile opens one when the time is over, if it still fires.
 * @throws {CaretakerError} `invalid_input` for a matcher, a time or a reason that is none
 */
export async function silence(ctx: Context, input: { matcher: string; forMs: number; reason: string }): Promise<Silence> {
  const matchers = parseMatchers(input.matcher)
  const reason = writtenTitle('reason', input.reason, longestReason)
  if (!Number.isFinite(input.forMs) || input.forMs < 60_000 || input.forMs > longestMs)
    throw new CaretakerError(
      'invalid_input',
      `for: found ${Math.round(input.forMs / 1_000)} seconds, expected a minute at least and 30 days at most.`,
    )
  const now = ctx.clock.now()
  return ctx.db.transaction(async (tx) => {
    const [made] = await tx.query<Silence>(
      `insert into caretaker.silences (environment, matchers, reason, created_by, created_at, ends_at)
       values ($1, $2::jsonb, $3, $4::jsonb, $5::timestamptz, $6::timestamptz) returning ${columns}`,
      [environmentOf(ctx), JSON.stringify(matchers), reason, JSON.stringify(ctx.actor), now, new Date(now.getTime() + input.forMs)],
    )
    const silence = made as Silence
    await appendAudit(tx, ctx, {
      action: 'alerts.silenced',
      target: `silences/${silence.id}`,
      detail: { matcher: showMatchers(matchers), until: silence.endsAt },
    })
    return silence
  })
}

/**
 * Ends a silence before its time.
 * @throws {CaretakerError} `not_found`; `conflict` for one that is over
 */
export async function unsilence(ctx: Context, id: string): Promise<Silence> {
  const now = ctx.clock.now()
  const unknown = () =>
    new CaretakerError('not_found', `There is no silence "${id.slice(0, 60)}". \`caretaker alerts list\` shows what there is.`)
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(id)) throw unknown()
  return ctx.db.transaction(async (tx) => {
    const [ended] = await tx.query<Silence>(
      `update caretaker.silences set ended_at = $3::timestamptz
       where id = $1::uuid and environment = $2 and ended_at is null and ends_at > $3::timestamptz returning ${columns}`,
      [id, environmentOf(ctx), now],
    )
    if (ended === undefined) {
      const [there] = await tx.query('select from caretaker.silences where id = $1::uuid and environment = $2', [id, environmentOf(ctx)])
      throw there === undefined ? unknown() : new CaretakerError('conflict', `The silence ${id} is over already.`)
    }
    await appendAudit(tx, ctx, { action: 'alerts.unsilenced', target: `silences/${id}`, detail: { matcher: showMatchers(ended.matchers) } })
    return ended
  })
}

/** The silences that hold now, the ones that end first in front; with `past` also those of the last 30 days, newest first. */
export function listSilences(ctx: Context, options: { past?: boolean } = {}): Promise<Silence[]> {
  const now = ctx.clock.now()
  if (options.past !== true) return silencesAt(ctx.db, environmentOf(ctx), now)
  return ctx.db.query<Silence>(
    `select ${columns} from caretaker.silences where environment = $1 and created_at > $2::timestamptz - interval '30 days'
     order by created_at desc limit 200`,
    [environmentOf(ctx), now],
  )
}

export function silencesAt(db: Queryable, environment: string, at: Date): Promise<Silence[]> {
  return db.query<Silence>(
    `select ${columns} from caretaker.silences
     where environment = $1 and created_at <= $2::timestamptz and ends_at > $2::timestamptz and ended_at is null order by ends_at`,
    [environment, at],
  )
}

/** Every silence that held at some time in [from, to), as far as they are kept. */
export function silencesBetween(db: Queryable, environment: string, { from, to }: { from: Date; to: Date }): Promise<Silence[]> {
  return db.query<Silence>(
    `select ${columns} from caretaker.silences
     where environment = $1 and created_at < $3::timestamptz and least(ends_at, coalesce(ended_at, ends_at)) > $2::timestamptz order by created_at`,
    [environment, from, to],
  )
}

/** Whether silences hold for every alert that the incident still has. */
export async function isSilenced(tx: Transaction, environment: string, incident: string, now: Date): Promise<boolean> {
  const silences = await silencesAt(tx, environment, now)
  if (silences.length === 0) return false
  const alerts = await tx.query<{ rule: string; component: string; severity: string; labels: Record<string, string> | null }>(
    `select i.rule, i.component, i.severity, a.labels from caretaker.incident_alerts i left join caretaker.alerts a on a.id::text = i.alert
     where i.incident = $1::uuid and i.cleared_at is null`,
    [incident],
  )
  const silent = ({ labels, ...alert }: (typeof alerts)[number]) =>
    silences.some(({ matchers }) => matchesAll(matchers, { ...alert, labels: labels ?? {} }))
  return alerts.length > 0 && alerts.every(silent)
}
