import type { Context } from '../platform/context.ts'
import { byDatabaseClock } from '../platform/database-clock.ts'
import type { Transaction } from '../platform/db.ts'
import { environmentOf } from '../platform/environment.ts'
import { channelNames } from './channels/names.ts'
import type { Condition } from './conditions.ts'
import { scopeOf } from './environment.ts'
import { type EventAlert, isOver, knownEvents, meaningfulEvents, meaningOf } from './events.ts'
import { applyToIncidents, tickIncidents } from './incidents/index.ts'
import { blindRule, look, type Seen } from './look.ts'
import {
  claimTopics,
  failingChannels,
  leaveToCause,
  leaveUntold,
  looksAtEvents,
  markConsumed,
  passOver,
  readAlerts,
  storeAlerts,
  takeEvaluation,
  takeEvents,
} from './queries.ts'
import { silencesAt } from './silences.ts'
import type { AlertSources } from './sources.ts'
import { type AlertState, type Change, step, storeState, wellState } from './step.ts'
import { stormComponent } from './storm.ts'
import { tellGap } from './tell-gap.ts'
import { carriedOn, keyOf, spokenFor, type Tracked, type TrackedChange, takeStorms } from './tracked.ts'
import type { AlertChange } from './types.ts'
import { withhold } from './withhold.ts'

export interface Evaluation {
  /** False: another evaluation was at it. */
  evaluated: boolean
  firing: number
  pending: number
  /** Firing, and told of by nobody: another is the cause, silenced, or under maintenance. */
  withheld: number
  /** Rules and checks that fired or were over with this look. */
  fired: string[]
  resolved: string[]
  /** Events of the outbox that were looked at. */
  events: number
}

/** What happened longer ago than this is not news. */
const newsMs = 24 * 3_600_000
const eventsAtOnce = { looked: 5_000, passedOver: 100_000 }
/** A label set that nobody has told of for so long is gone. */
const goneMs = 3 * 24 * 3_600_000
/** A rule or check that no policy has looked at for so long is gone, and its alert with it. */
const rolloutMs = 10 * 60_000
const givenUp = 'alerts.notification_dead'

/**
 * Looks at everything once: each rule, check and event takes its step, and what that means for incidents and for who is told is stored in
 * the same transaction. Two at once: the second finds the lock taken and leaves. A kill at any instant leaves all of it or nothing.
 * @throws {CaretakerError} `database_unavailable`
 */
export async function evaluateAlerts(given: Context, sources: AlertSources): Promise<Evaluation> {
  const environment = environmentOf(given)
  return given.db.transaction(async (tx) => {
    if (!(await takeEvaluation(tx, environment)))
      return { evaluated: false, firing: 0, pending: 0, withheld: 0, fired: [], resolved: [], events: 0 }
    const now = (await byDatabaseClock(given)).clock.now()
    // One moment for the whole of it.
    const ctx: Context = { ...given, clock: { ...given.clock, now: () => now } }
    const seen = await look(ctx, sources, now, await failingChannels(ctx.db, environment))
    const rows = await readAlerts(tx, scopeOf(ctx), seen.conditions)
    const alerts = new Map(rows.map((row) => [keyOf(row), carriedOn(row)]))
    for (const condition of seen.conditions) takeStep(alerts, condition, now)
    for (const alert of alerts.values()) if (alert.row?.source !== 'event' && !alert.looked) leftAlone(alert, seen, now)
    for (const alert of alerts.values()) endGone(alert, seen, now)
    const events = await takeNews(tx, ctx, environment, now)
    await followEvents(ctx, sources, seen, alerts, events, now)

    const standing = [...alerts.values()]
    const verdicts = withhold(
      // What is about to fire and cannot be looked at any more would hold back what stands on it without end.
      standing.map((alert) => ({ ...alert, status: alert.state.status === 'pending' && !alert.state.counted ? 'ok' : alert.state.status })),
      { tree: await sources.dependencyTree(ctx.config), silences: await silencesAt(tx, environment, now), maintenance: seen.maintenance },
    )
    takeStorms(ctx, standing, verdicts, await sources.remoteChecks(ctx.config))
    const affected = Map.groupBy(
      standing.flatMap(({ component, state }, index) => {
        const root = verdicts[index]?.root ?? null
        return root === null || state.status !== 'firing' ? [] : [{ root, component }]
      }),
      ({ root }) => root,
    )
    const changes: TrackedChange[] = []
    for (const [index, alert] of standing.entries()) {
      const verdict = verdicts[index] ?? { withheld: null, root: null, quiet: false }
      alert.withheld = alert.state.status === 'firing' ? verdict.withheld : null
      alert.root = alert.state.status === 'firing' ? verdict.root : null
      const suffering = (affected.get(alert.component) ?? []).map(({ component }) => component)
      if (alert.state.status !== 'firing') {
        if (alert.announced) changes.push({ alert, change: 'resolved' })
        alert.announced = false
      } else if (alert.withheld === null && (alert.announced || alert.state.wellSince === null)) {
        // What was held back, and is well again though not yet for long enough to be over, is not told of any more.
        const more = [...new Set([...alert.affected, ...suffering])].sort()
        const news =
          !alert.announced ||
          more.length > alert.affected.length ||
          alert.severity !== alert.row?.severity ||
          alert.cause !== alert.row.cause ||
          alert.row.step.untold === true ||
          // One that has left a storm, and is found well, is over soon.
          (alert.storm !== (alert.row.step.storm ?? null) && alert.state.wellSince === null)
        alert.affected = more
        alert.announced = true
        if (news) changes.push({ alert, change: 'firing' })
      }
      if (alert.state.status === 'ok') alert.affected = []
    }
    // A consequence that was told of before its cause showed, or that asks for more than its cause does.
    const told = new Set(
      standing.flatMap(({ source, component, announced, withheld, state }) =>
        source === 'check' && announced && withheld === null && state.wellSince === null ? [component] : [],
      ),
    )
    for (const [index, alert] of standing.entries()) {
      const asks = verdicts[index]?.quiet === false && alert.notify?.length !== 0
      const explained = alert.withheld === 'inhibited' && alert.state.wellSince === null && alert.root !== null && told.has(alert.root)
      if (alert.withheld !== 'inhibited') alert.spokenFor = null
      // Once, so that who makes the incident of the cause less severe is not overruled a minute later.
      const news = alert.announced || (asks && alert.spokenFor !== spokenFor({ root: alert.root, severity: alert.severity }))
      if (explained && news) changes.push({ alert, change: 'explained', quiet: !asks })
    }
    await storeAndTell(tx, ctx, standing, changes, now)
    await markConsumed(
      tx,
      events.map(({ id }) => id),
      now,
    )
    await tickIncidents(tx, ctx, now)
    await tellGap(tx, ctx, environment, now)
    const count = (status: AlertState['status']) => standing.filter(({ state }) => state.status === status).length
    const changed = (change: Change) => standing.filter((alert) => alert.change === change).map(({ rule }) => rule)
    return {
      evaluated: true,
      firing: count('firing'),
      pending: count('pending'),
      withheld: standing.filter((alert) => alert.withheld !== null).length,
      fired: changed('firing'),
      resolved: changed('resolved'),
      events: events.length,
    }
  })
}

/** What has happened since the last evaluation, and may mean something. */
async function takeNews(tx: Transaction, ctx: Context, environment: string, now: Date) {
  if (!(await looksAtEvents(tx, environment, now))) return []
  const meaningful = meaningfulEvents(ctx.config)
  await claimTopics(
    tx,
    environment,
    meaningful.filter((topic) => !knownEvents.includes(topic)),
    now,
  )
  await passOver(tx, environment, meaningful, eventsAtOnce.passedOver, now)
  return takeEvents(tx, meaningful, eventsAtOnce.looked)
}

function takeStep(alerts: Map<string, Tracked>, condition: Condition, now: Date): void {
  const { rule, labels, source, component, severity, summary, cause, value, runbook, notify, dependsOn } = condition
  const before = alerts.get(keyOf(condition))
  const sample = condition.sample(before?.state.status === 'firing')
  const after = step(before?.state ?? wellState, sample, now, condition.thresholds)
  // What is well and was well needs no row.
  if (before === undefined && after.state.status === 'ok') return
  const alert: Tracked = before ?? {
    ...{ row: null, rule, labels, source, component, severity, summary, cause, value, runbook, notify, dependsOn },
    ...{
      state: wellState,
      change: undefined,
      affected: [],
      announced: false,
      withheld: null,
      root: null,
      storm: null,
      spokenFor: null,
      expiresAt: null,
      over: null,
      looked: true,
      sample: null,
      silentSince: null,
    },
  }
  alert.looked = true
  alert.sample = sample
  alert.dependsOn = dependsOn
  if (after.change === 'resolved') alert.over = alert.state.wellSince ?? now
  alert.state = after.state
  alert.change = after.change
  alert.value = value
  // While it is found well and not yet told so, it keeps the words it fired with.
  // And its component for as long as people were told of it: two versions of a policy must not take turns with two incidents.
  if (sample === true)
    Object.assign(alert, { component: alert.announced ? alert.component : component, severity, summary, cause, runbook, notify })
  alerts.set(keyOf(condition), alert)
}

/** One that nobody looked at now: its rule is gone, and soon it with it; or what it asks for could not be told, and it stays as it is. */
function leftAlone(alert: Tracked, seen: Seen, now: Date): void {
  if (alert.source !== 'channel' && seen.known(alert)) {
    alert.state = step(alert.state, null, now, { forMs: 0, keepFiringForMs: 0 }).state
    return
  }
  // While a deployment is replaced its two versions look in turns: what one of them does not have is left to the other.
  const { lookedAt } = alert.state
  if (alert.source !== 'channel' && lookedAt !== null && Math.abs(now.getTime() - lookedAt.getTime()) < rolloutMs) return
  end(alert, now)
}

/** One of a label set that nobody tells any more, as of a bucket that was deleted: it would fire for ever. */
function endGone(alert: Tracked, seen: Seen, now: Date): void {
  // Whose rule cannot be looked at is told of as that.
  const blind = seen.conditions.some(({ rule, labels }) => rule === blindRule && labels.rule === alert.rule)
  if (alert.source !== 'rule' || Object.keys(alert.labels).length === 0 || alert.state.counted || blind) return
  if (alert.sample !== null) alert.silentSince = null
  else if (alert.silentSince === null) alert.silentSince = now
  else if (now.getTime() - alert.silentSince.getTime() >= goneMs) {
    end(alert, now)
    alert.silentSince = null
  }
}

function end(alert: Tracked, now: Date): void {
  if (alert.state.status === 'firing') {
    alert.change = 'resolved'
    alert.over = now
  }
  alert.state = { ...wellState, lookedAt: now }
}

/** Events fire their alerts and end each other's; the rest end when what they spoke of is well again, or in time. */
async function followEvents(
  ctx: Context,
  sources: AlertSources,
  seen: Seen,
  alerts: Map<string, Tracked>,
  events: readonly { topic: string; payload: Record<string, unknown>; at: Date }[],
  now: Date,
): Promise<void> {
  for (const event of events) {
    if (event.at.getTime() <= now.getTime() - newsMs) continue
    const meaning = meaningOf(ctx.config, event)
    if (meaning === null) continue
    if ('ends' in meaning) {
      const alert = alerts.get(keyOf(meaning.ends))
      if (alert !== undefined) end(alert, now)
    } else {
      const { fires } = meaning
      // That a channel has given something up is told on the others.
      const others = event.topic === givenUp ? channelNames(ctx).filter((name) => name !== fires.labels.channel) : null
      fire(alerts, { ...fires, notify: fires.notify ?? others }, now)
    }
  }
  const firing = [...alerts.values()].filter(({ source, state }) => source === 'event' && state.status === 'firing')
  const names = [...new Set(firing.flatMap(({ labels }) => labels.job ?? []))]
  const done = names.length === 0 ? new Map<string, Date>() : await sources.jobsDone(ctx, names)
  for (const alert of firing) {
    const since = alert.state.since ?? now
    const check = seen.observations?.find(({ component }) => component === alert.component)
    const over = isOver({ ...alert, since }, { jobDone: (job) => done.get(job), check })
    if (over || (alert.expiresAt !== null && alert.expiresAt <= now)) end(alert, now)
  }
}

/** It lasts from the event on; a second one of the same makes it last longer. */
function fire(alerts: Map<string, Tracked>, event: EventAlert, now: Date): void {
  if (event.expiresAt <= now) return
  const { rule, labels, component, severity, summary, cause, runbook, notify, expiresAt } = event
  const before = alerts.get(keyOf(event))
  const firing = before?.state.status === 'firing'
  alerts.set(keyOf(event), {
    ...{ row: before?.row ?? null, rule, labels, component, severity, summary, cause, runbook, notify, expiresAt },
    source: 'event',
    state: { status: 'firing', since: event.at, wellSince: null, seenMs: 0, lookedAt: now, counted: false },
    change: firing ? undefined : 'firing',
    value: null,
    dependsOn: [],
    affected: before?.affected ?? [],
    announced: before?.announced ?? false,
    withheld: null,
    root: null,
    storm: before?.storm ?? null,
    spokenFor: before?.spokenFor ?? null,
    over: null,
    looked: true,
    sample: true,
    silentSince: null,
  })
}

/** Stores every alert and, in the same transaction, what that means for incidents. */
async function storeAndTell(
  tx: Transaction,
  ctx: Context,
  standing: readonly Tracked[],
  changes: readonly TrackedChange[],
  now: Date,
): Promise<void> {
  const stored = standing.filter(
    ({ row, state, announced }) => row === null || state.status !== 'ok' || row.step.status !== 'ok' || row.announced !== announced,
  )
  const ids = await storeAlerts(
    tx,
    scopeOf(ctx),
    now,
    stored.map(({ state, change, ...alert }) => ({
      ...alert,
      row: undefined,
      step: { ...storeState(state), silentSince: alert.silentSince?.toISOString() ?? null, storm: alert.storm, spokenFor: alert.spokenFor },
      since: state.since ?? alert.row?.since ?? null,
      firedAt: change === 'firing' ? now : null,
      resolvedAt: change === 'resolved' ? now : null,
    })),
  )
  const idOf = new Map(stored.map((alert, index) => [alert, ids[index] as string]))
  const told = changes.map(({ alert, change, quiet }) => {
    const { rule, component, severity, summary, cause, value, runbook, notify, affected, state, over, root, storm } = alert
    const told: AlertChange = {
      alertId: idOf.get(alert) ?? alert.row?.id ?? '',
      ...{ rule, component, severity, change, summary, affected: [...affected] },
      since: change === 'resolved' ? (over ?? now) : (state.since ?? now),
      ...(cause === null ? {} : { cause }),
      ...(value === null ? {} : { value }),
      ...(runbook === null ? {} : { runbook }),
      ...(quiet === true ? { notify: [] } : notify === null ? {} : { notify: [...notify] }),
      ...(change === 'explained' && root !== null ? { root } : {}),
      ...(storm === null ? {} : { storm: true }),
    }
    return { told, before: alert.row?.announced === true }
  })
  if (await applied(tx, ctx, told, now)) return
  // What is wrong with one incident must keep nobody from hearing of the others. Its alerts are told with the next look.
  const cause = ({ told: { component, root, storm } }: (typeof told)[number]) => (storm === true ? stormComponent : (root ?? component))
  for (const of of Map.groupBy(told, cause).values())
    if (!(await applied(tx, ctx, of, now))) for (const { told: one, before } of of) await leaveUntold(tx, one.alertId, before)
}

/** Whether the incidents follow: all of them, or none and the log says why. */
async function applied(tx: Transaction, ctx: Context, changes: readonly { told: AlertChange }[], now: Date): Promise<boolean> {
  await tx.execute('savepoint incidents')
  try {
    const all = changes.map(({ told }) => told)
    const spoken = new Set(await applyToIncidents(tx, ctx, all, now))
    await leaveToCause(
      tx,
      all.flatMap((one) => (spoken.has(one.alertId) ? [{ alert: one.alertId, spokenFor: spokenFor(one) }] : [])),
    )
    await tx.execute('release savepoint incidents')
    return true
  } catch (error) {
    // Without a connection this fails too, and with it the whole look.
    await tx.execute('rollback to savepoint incidents')
    const components = [...new Set(changes.map(({ told }) => told.component))]
    ctx.log.error({ err: error, components }, 'the incidents of alerts could not be brought up to date')
    ctx.sentry.capture(error, { requestId: 'incidents' })
    return false
  }
}
