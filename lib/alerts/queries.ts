import type { Queryable, Row, Transaction } from '../platform/db.ts'
import type { StoredState } from './step.ts'

/** What is kept beside the state: since when nobody could tell a figure, and what `Tracked` says. */
type KeptState = StoredState & { silentSince?: string | null; storm?: string | null; spokenFor?: string | null; untold?: true }

/** A row of `caretaker.alerts`, as the evaluation reads it. */
export interface AlertRow extends Row {
  id: string
  rule: string
  labels: Record<string, string>
  source: 'rule' | 'check' | 'event' | 'channel'
  component: string
  severity: string
  step: KeptState
  summary: string
  cause: string | null
  value: number | null
  since: Date | null
  expiresAt: Date | null
  runbook: string | null
  notify: string[] | null
  affected: string[]
  announced: boolean
}

/** Lets one evaluation at a time; the second finds the lock taken and has nothing to do. It ends with the transaction. */
export async function takeEvaluation(tx: Transaction, environment: string): Promise<boolean> {
  const [row] = await tx.query<{ taken: boolean }>(
    `select pg_try_advisory_xact_lock(hashtextextended('caretaker:alerts:' || $1::text, 0)) as taken`,
    [environment],
  )
  return row?.taken === true
}

/** Notes that the rules were evaluated. @returns when they were before; null the first time */
export async function noteEvaluation(tx: Transaction, environment: string, now: Date): Promise<Date | null> {
  const [before] = await tx.query<{ at: Date }>('select at from caretaker.alert_evaluations where environment = $1', [environment])
  await tx.execute(
    `insert into caretaker.alert_evaluations (environment, at) values ($1, $2::timestamptz)
     on conflict (environment) do update set at = excluded.at`,
    [environment, now],
  )
  return before?.at ?? null
}

/** Of whom, where several environments and deployments work on one database. */
export interface Scope {
  environment: string
  deployment: string
}

/**
 * Every alert of the deployment that is not well, or of which incidents do not know yet that it is; and of those wanted by name also
 * the well ones. What happened concerns everybody.
 */
export function readAlerts(
  tx: Transaction,
  { environment, deployment }: Scope,
  keys: readonly { rule: string; labels: Record<string, string> }[],
): Promise<AlertRow[]> {
  return tx.query<AlertRow>(
    `select id::text as id, rule, labels, source, component, severity, step, summary, cause, value, since, expires_at as "expiresAt", runbook, notify,
       affected, announced
     from caretaker.alerts
     where environment = $1 and ((state <> 'ok' or announced) and (deployment = $4 or source = 'event')
       or (rule, labels) in (select rule, labels from unnest($2::text[], $3::jsonb[]) as k(rule, labels)))
     order by rule, labels for update`,
    [environment, keys.map(({ rule }) => rule), keys.map(({ labels }) => JSON.stringify(labels)), deployment],
  )
}

export interface StoredAlert {
  rule: string
  labels: Record<string, string>
  source: AlertRow['source']
  component: string
  severity: string
  step: KeptState
  summary: string
  cause: string | null
  value: number | null
  since: Date | null
  /** Null leaves what is there. */
  firedAt: Date | null
  resolvedAt: Date | null
  expiresAt: Date | null
  withheld: string | null
  root: string | null
  runbook: string | null
  notify: readonly string[] | null
  affected: readonly string[]
  announced: boolean
}

/** Stores alerts in one statement. @returns their ids, in the same order */
export async function storeAlerts(
  tx: Transaction,
  { environment, deployment }: Scope,
  now: Date,
  alerts: readonly StoredAlert[],
): Promise<string[]> {
  if (alerts.length === 0) return []
  const rows = await tx.query<{ place: number; id: string }>(
    `with given as (
       select (one ->> 'place')::int as place, one from jsonb_array_elements($3::jsonb) as one
     ), stored as (
       insert into caretaker.alerts as a (environment, deployment, rule, labels, source, component, severity, state, step, summary, cause, value, since, fired_at,
         resolved_at, expires_at, withheld, root, runbook, notify, affected, announced, evaluated_at)
       select $1, $4, one ->> 'rule', one -> 'labels', one ->> 'source', one ->> 'component', one ->> 'severity', one -> 'step' ->> 'status', one -> 'step',
         one ->> 'summary', one ->> 'cause', (one ->> 'value')::float8, (one ->> 'since')::timestamptz, (one ->> 'firedAt')::timestamptz,
         (one ->> 'resolvedAt')::timestamptz, (one ->> 'expiresAt')::timestamptz, one ->> 'withheld', one ->> 'root', one ->> 'runbook',
         case when jsonb_typeof(one -> 'notify') = 'array' then array(select jsonb_array_elements_text(one -> 'notify')) end,
         array(select jsonb_array_elements_text(one -> 'affected')), (one ->> 'announced')::boolean, $2::timestamptz
       from given order by place
       on conflict (environment, rule, labels) do update set deployment = excluded.deployment, component = excluded.component, severity = excluded.severity, source = excluded.source,
         state = excluded.state, step = excluded.step, summary = excluded.summary, cause = excluded.cause, value = excluded.value,
         since = excluded.since, fired_at = coalesce(excluded.fired_at, a.fired_at), resolved_at = coalesce(excluded.resolved_at, a.resolved_at),
         expires_at = excluded.expires_at, withheld = excluded.withheld, root = excluded.root, runbook = excluded.runbook, notify = excluded.notify,
         affected = excluded.affected, announced = excluded.announced, evaluated_at = excluded.evaluated_at
       returning a.id, a.rule, a.labels
     )
     select g.place, s.id::text as id from given g join stored s on s.rule = g.one ->> 'rule' and s.labels = g.one -> 'labels' order by g.place`,
    [environment, now, JSON.stringify(alerts.map((alert, place) => ({ place, ...alert }))), deployment],
  )
  return rows.map(({ id }) => id)
}

/** Notes that incidents could not follow this alert: to the next look it is news, whatever it changed. */
export async function leaveUntold(tx: Transaction, alert: string, announced: boolean): Promise<void> {
  await tx.execute(
    `update caretaker.alerts set announced = $2::boolean, step = step || '{"untold": true, "spokenFor": null}' where id = $1::uuid`,
    [alert, announced],
  )
}

/** Notes that the incidents of their cause tell of these alerts, and none of their own. */
export async function leaveToCause(tx: Transaction, alerts: readonly { alert: string; spokenFor: string }[]): Promise<void> {
  if (alerts.length === 0) return
  await tx.execute(
    `update caretaker.alerts a set announced = false, step = step || jsonb_build_object('spokenFor', of.spoken_for)
     from unnest($1::uuid[], $2::text[]) as of(alert, spoken_for) where a.id = of.alert`,
    [alerts.map(({ alert }) => alert), alerts.map(({ spokenFor }) => spokenFor)],
  )
}

/**
 * Whether events are this environment's to look at. They are of the database, and each is looked at once: where production is watched
 * they are production's, so that what is tried out elsewhere on its database does not take them from it.
 */
export async function looksAtEvents(tx: Transaction, environment: string, now: Date): Promise<boolean> {
  if (environment === 'production') return true
  const [watched] = await tx.query(
    `select from caretaker.alert_evaluations where environment = 'production' and at > $1::timestamptz - interval '1 day'`,
    [now],
  )
  return watched === undefined
}

/** Notes which events of the app the policy gives a meaning to, so that other deployments leave them alone. */
export async function claimTopics(tx: Transaction, environment: string, topics: readonly string[], now: Date): Promise<void> {
  if (topics.length === 0) return
  await tx.execute(
    `insert into caretaker.alert_topics as t (environment, topic, seen_at)
     select $1, topic, $3::timestamptz from unnest($2::text[]) as topic order by topic
     on conflict (environment, topic) do update set seen_at = excluded.seen_at
       where t.seen_at not between excluded.seen_at - interval '10 minutes' and excluded.seen_at`,
    [environment, topics, now],
  )
}

/**
 * Passes over the events that mean nothing to anybody: ten thousand orders must not stand before the backup that was missed. What a policy
 * gave a meaning to within the last hour is left to it.
 */
export async function passOver(
  tx: Transaction,
  environment: string,
  meaningful: readonly string[],
  limit: number,
  now: Date,
): Promise<void> {
  await tx.execute(
    `update caretaker.outbox set delivered_at = $3::timestamptz where id in (
       select id from caretaker.outbox where delivered_at is null and topic <> all($1::text[])
         and topic not in (select t.topic from caretaker.alert_topics t
           where t.environment = $4 and t.seen_at > $3::timestamptz - interval '1 hour')
       order by id limit $2::int for update skip locked)`,
    [meaningful, limit, now, environment],
  )
}

/**
 * Events that alerts have not looked at and that mean something here, oldest first; two evaluations never get the same. A payload that is
 * no object says nothing.
 */
export function takeEvents(
  tx: Transaction,
  meaningful: readonly string[],
  limit: number,
): Promise<{ id: string; topic: string; payload: Record<string, unknown>; at: Date }[]> {
  return tx.query(
    `select id::text as id, topic, case when jsonb_typeof(payload) = 'object' then payload else '{}' end as payload, at
     from caretaker.outbox where delivered_at is null and topic = any($1::text[]) order by outbox.id limit $2::int for update skip locked`,
    [meaningful, limit],
  )
}

export async function markConsumed(tx: Transaction, ids: readonly string[], now: Date): Promise<void> {
  await tx.execute('update caretaker.outbox set delivered_at = $2::timestamptz where id = any($1::bigint[])', [ids, now])
}

export interface FailingChannel extends Row {
  name: string
  failingSince: Date
  failures: number
}

/** Channels that have taken nothing for a while. */
export function failingChannels(db: Queryable, environment: string): Promise<FailingChannel[]> {
  return db.query<FailingChannel>(
    `select name, failing_since as "failingSince", failures from caretaker.alert_channels where environment = $1 and failing_since is not null order by name`,
    [environment],
  )
}
