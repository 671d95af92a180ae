import { appendAudit } from '../platform/audit.ts'
import type { Context } from '../platform/context.ts'
import { byDatabaseClock } from '../platform/database-clock.ts'
import type { Transaction } from '../platform/db.ts'
import { environmentOf } from '../platform/environment.ts'
import { recordEvent } from './incidents/incident.ts'
import { applyToIncidents } from './incidents/index.ts'
import { takeEvaluation } from './queries.ts'
import { storeState, wellState } from './step.ts'

/*
 * What is left of a preview that was deleted, or of a deployment under a name that no longer is: nobody looks at its conditions any more,
 * so that what was open would stay so for ever.
 */

/** Whom nobody has heard of for so long is gone. A staging that sleeps over a holiday is not. */
const goneMs = 14 * 86_400_000
/** An outage of Caretaker itself, however long, ends nothing there. */
const never = 'production'

const openAlerts = `state <> 'ok' or announced`

/** Where nobody has looked at all of late, nobody knows whose are gone. */
const watched = (environment: string, now: string) =>
  `exists (select from caretaker.alert_evaluations e where e.environment = ${environment} and e.at >= ${now}::timestamptz - interval '1 hour')`

/** How many alerts and incidents would be ended now. */
export async function countAbandoned(given: Context): Promise<number> {
  const { own, before, now } = await termsOf(given)
  const [row] = await given.db.query<{ count: number }>(
    `with gone as (select environment from caretaker.alert_evaluations where environment <> all($1::text[]) and at < $2::timestamptz)
     select ((select count(*) from caretaker.alerts a join gone using (environment) where ${openAlerts})
       + (select count(*) from caretaker.incidents i join gone using (environment) where i.state <> 'resolved')
       + (select count(*) from caretaker.alerts where environment = $3 and evaluated_at < $2::timestamptz and (${openAlerts})
           and ${watched('$3', '$4')}))::int as count`,
    [[own, never], before, own, now],
  )
  return row?.count ?? 0
}

/**
 * Ends what is open of environments that nobody has evaluated for two weeks, telling nobody: who watched there is gone, and with it who
 * would send. In this environment it ends the alerts of deployments that are gone; of incidents that end with them people are told.
 * Nothing is deleted but marks: rows go with the retention of the rest.
 * @returns how many alerts and incidents were ended, `limit` at most of this environment and whole environments of the others
 */
export async function endAbandoned(given: Context, limit: number): Promise<number> {
  const { own, before, now } = await termsOf(given)
  const ctx: Context = { ...given, clock: { ...given.clock, now: () => now } }
  let ended = await ctx.db.transaction((tx) => endDeployments(tx, ctx, own, before, now, limit))
  const gone = await ctx.db.query<{ environment: string }>(
    `select environment from caretaker.alert_evaluations where environment <> all($1::text[]) and at < $2::timestamptz order by environment`,
    [[own, never], before],
  )
  await ctx.db.execute('delete from caretaker.alert_topics where seen_at < $1::timestamptz', [before])
  for (const { environment } of gone) ended += await ctx.db.transaction((tx) => endEnvironment(tx, ctx, environment, before, now))
  return ended
}

async function termsOf(given: Context): Promise<{ own: string; before: Date; now: Date }> {
  const now = (await byDatabaseClock(given)).clock.now()
  return { own: environmentOf(given), before: new Date(now.getTime() - goneMs), now }
}

/** Alerts of this environment that its deployments, which do look, leave alone: theirs is gone. */
async function endDeployments(tx: Transaction, ctx: Context, own: string, before: Date, now: Date, limit: number): Promise<number> {
  // An evaluation that is at it may be the one that looks at them.
  if (!(await takeEvaluation(tx, own))) return 0
  const alerts = await tx.query<{ id: string; rule: string; component: string; severity: string; summary: string; announced: boolean }>(
    `with left_behind as (
       select id, announced from caretaker.alerts where environment = $1 and evaluated_at < $2::timestamptz and (${openAlerts})
         and ${watched('$1', '$5')}
       order by id limit $3::int for update
     )
     update caretaker.alerts a set state = 'ok', step = $4::jsonb, announced = false, withheld = null, root = null, affected = '{}',
       resolved_at = $5::timestamptz, evaluated_at = $5::timestamptz
     from left_behind l where a.id = l.id
     returning a.id::text as id, a.rule, a.component, a.severity, a.summary, l.announced`,
    [own, before, limit, JSON.stringify(storeState({ ...wellState, lookedAt: now })), now],
  )
  const told = alerts.filter(({ announced }) => announced)
  await applyToIncidents(
    tx,
    ctx,
    told.map(({ id, rule, component, severity, summary }) => ({
      ...{ alertId: id, rule, component, severity, summary, change: 'resolved' as const, since: now, affected: [] },
    })),
    now,
  )
  return alerts.length
}

async function endEnvironment(tx: Transaction, ctx: Context, environment: string, before: Date, now: Date): Promise<number> {
  if (!(await takeEvaluation(tx, environment))) return 0
  // Whoever evaluates there again, or opens an incident there by hand, comes before this or after it.
  await tx.query(`select pg_advisory_xact_lock(hashtextextended('caretaker:incidents:' || $1::text, 0))`, [environment])
  const still = await tx.execute('delete from caretaker.alert_evaluations where environment = $1 and at < $2::timestamptz', [
    environment,
    before,
  ])
  if (still === 0) return 0
  const alerts = await tx.execute(
    `update caretaker.alerts set state = 'ok', step = $2::jsonb, announced = false, withheld = null, root = null, affected = '{}',
       resolved_at = coalesce(resolved_at, $3::timestamptz) where environment = $1 and (${openAlerts})`,
    [environment, JSON.stringify(storeState({ ...wellState, lookedAt: now })), now],
  )
  const incidents = await tx.query<{ id: string }>(
    `update caretaker.incidents set state = 'resolved', resolved_at = $2::timestamptz, resolved_by = $3::jsonb, next_reminder_at = null,
       clear_since = null, resolve_at = null
     where environment = $1 and state <> 'resolved' returning id::text as id`,
    [environment, now, JSON.stringify({ type: 'system' })],
  )
  for (const { id } of incidents)
    await recordEvent(tx, id, {
      kind: 'resolved',
      at: now,
      actor: { type: 'system' },
      detail: { reason: 'environment_gone' },
      body: `Ended because nobody has watched "${environment}" for two weeks.`,
    })
  await tx.execute(
    `update caretaker.incident_alerts a set cleared_at = $2::timestamptz from caretaker.incidents i
     where i.id = a.incident and i.environment = $1 and a.cleared_at is null`,
    [environment, now],
  )
  // Were it to come back, nobody wants to hear what was news then.
  await tx.execute(`update caretaker.notifications set state = 'superseded' where environment = $1 and state = 'waiting'`, [environment])
  await tx.execute('delete from caretaker.alert_channels where environment = $1', [environment])
  await appendAudit(tx, ctx, {
    action: 'alerts.environment_ended',
    target: environment,
    detail: { alerts, incidents: incidents.length },
  })
  return alerts + incidents.length
}
