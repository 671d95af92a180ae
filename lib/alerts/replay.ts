import { type AlertRule, nearest } from '../config/index.ts'
import type { Context } from '../platform/context.ts'
import { CaretakerError } from '../platform/errors.ts'
import { type Condition, checkConditions, checkRule, keepFiringForMs, ruleSummary, thresholdsOf } from './conditions.ts'
import { judge } from './judge.ts'
import { figureQuery } from './look.ts'
import { PastIncident } from './past/incident.ts'
import { checkLooks, type Look, lookTimes, type Span } from './past/looks.ts'
import { type Subject, surroundingsOf, type Withholding } from './past/surroundings.ts'
import type { AlertSources } from './sources.ts'
import { type AlertState, step, type Thresholds, wellState } from './step.ts'

/** A time in which the rule would have fired. */
export interface ReplayedAlert {
  labels: Record<string, string>
  at: Date
  /** Null: it would fire still. */
  until: Date | null
  /** When it would have been told of; null where all of it was held back. */
  told: Date | null
  /** As what: a new incident, or one that came back, which page people; a part of one that was open, which does not; null where it was not told of. */
  page: 'opened' | 'reopened' | 'joined' | null
  /** What held it back until then, oldest first. */
  held: { from: Date; until: Date; because: NonNullable<Withholding['withheld']>; root: string | null }[]
  /** Reminders, if nobody had acknowledged it. */
  reminders: number
  value: number | null
  cause: string | null
  summary: string
  /** What it was told by: figures of whole hours say less than those of minutes. */
  resolution: 'minute' | 'hour'
}

export interface Replay {
  rule: string
  from: Date
  to: Date
  alerts: ReplayedAlert[]
  /** Looks of which nobody can say what they would have found, of all. */
  unknown: number
  looks: number
  /** Before this time the history knows hours only; null where it knows every minute. */
  hourlyBefore: Date | null
  /** What the history cannot tell of who would have been paged, a sentence each. */
  cannotKnow: string[]
}

const minuteMs = 60_000
/** A month of minutes has 43,200; a longer time is looked at less often. */
const mostLooks = 90_000

/**
 * What a rule would have paged, over history that is stored: the same step as live, look by look, and the same verdict on what is held
 * back: by a check that explains it, by silences, by maintenance. `rule` is one of the policy, enabled or not; one that is given whole;
 * or a check.
 * @throws {CaretakerError} `not_found` with the nearest name; `invalid_input` for a time that is none
 */
export async function replayRule(
  ctx: Context,
  sources: AlertSources,
  input: { rule: string | AlertRule; from: Date; to?: Date },
): Promise<Replay> {
  const to = input.to ?? ctx.clock.now()
  const { from } = input
  if (!(from < to))
    throw new CaretakerError('invalid_input', `since: found ${from.toISOString()}, expected a time before ${to.toISOString()}.`)
  const stepMs = Math.max(1, Math.ceil((to.getTime() - from.getTime()) / minuteMs / mostLooks)) * minuteMs
  const span = { from, to, stepMs }
  const conditions = checkConditions(ctx.config, await sources.health(ctx), (cause) => cause)
  if (typeof input.rule !== 'string') return replayFigures(ctx, sources, conditions, input.rule, span)
  const named = input.rule
  const rules = ctx.config.alerts?.rules ?? []
  const rule = rules.find(({ name }) => name === named)
  if (rule !== undefined) return replayFigures(ctx, sources, conditions, rule, span)
  const condition = conditions.find((one) => one.rule === named || one.rule === checkRule(named))
  if (condition === undefined) {
    const near = nearest(named, [...rules.map(({ name }) => name), ...conditions.flatMap((one) => [one.rule, one.component])])
    throw new CaretakerError(
      'not_found',
      `There is no rule "${named.slice(0, 60)}"${near === undefined ? '' : `; did you mean "${near}"?`}${near === undefined ? '.' : ''} \`caretaker alerts rules\` lists them. Events cannot be replayed.`,
    )
  }
  return replayCheck(ctx, sources, conditions, condition, span)
}

async function replayFigures(
  ctx: Context,
  sources: AlertSources,
  checks: readonly Condition[],
  rule: AlertRule,
  span: Span,
): Promise<Replay> {
  const query = figureQuery(rule)
  const { by, ...whole } = query
  // Every label set there was in that time.
  const sets =
    by === undefined
      ? [{}]
      : (await sources.measure(ctx, { ...query, overSeconds: (span.to.getTime() - span.from.getTime()) / 1_000 }, span.to)).map(
          ({ labels }) => labels,
        )
  const subject = { rule: rule.name, component: rule.component ?? rule.name, severity: rule.severity, source: 'rule' as const }
  const around = await surroundingsOf(ctx, sources, checks, { ...subject, dependsOn: rule.dependsOn ?? [] }, span)
  const replay = emptyReplay(rule.name, span, around.cannotKnow)
  const thresholds = thresholdsOf(ctx.config, rule)
  const all: Series[] = []
  for (const labels of sets) {
    const where = { ...whole.where, ...labels }
    const per = whole.per === undefined ? undefined : { metric: whole.per.metric, where: { ...whole.per.where, ...labels } }
    const asked = { ...whole, ...(Object.keys(where).length === 0 ? {} : { where }), ...(per === undefined ? {} : { per }) }
    const points = await sources.measureSeries(ctx, asked, { from: span.from, to: span.to, stepSeconds: span.stepMs / 1_000 })
    const looks = points.map(
      (point): Look => ({
        at: point.at,
        value: point.value,
        cause: null,
        resolution: point.resolution,
        sample: (firing) => judge(rule, point, firing),
      }),
    )
    const verdict = (at: Date) => around.verdict(at, labels)
    all.push({ labels, looks, thresholds, verdict, summary: ({ value }) => ruleSummary(rule, { labels, value }) })
  }
  return walk(ctx, replay, all)
}

async function replayCheck(
  ctx: Context,
  sources: AlertSources,
  checks: readonly Condition[],
  condition: Condition,
  span: Span,
): Promise<Replay> {
  const { rule, component, severity, thresholds } = condition
  const changes = (await sources.healthChanges(ctx, span)).filter(({ check }) => check === component)
  const subject: Subject = { rule, component, severity, source: 'check', dependsOn: [] }
  const around = await surroundingsOf(ctx, sources, checks, subject, span)
  const replay = emptyReplay(rule, span, around.cannotKnow)
  const words = new Map<string, string>()
  for (const { cause } of changes) if (cause !== null) words.set(cause, await sources.words(cause))
  const series: Series = {
    labels: {},
    looks: checkLooks(changes, lookTimes(span)),
    thresholds: { ...thresholds, keepFiringForMs: keepFiringForMs(ctx.config) },
    verdict: (at) => around.verdict(at, {}),
    summary: ({ cause }) => (cause === null ? component : `${component}: ${words.get(cause) ?? cause}`),
  }
  return walk(ctx, replay, [series])
}

interface Series {
  labels: Record<string, string>
  looks: readonly Look[]
  thresholds: Thresholds
  summary(look: Look): string
  /** What would have held it back at that time, had it fired. */
  verdict(at: Date): Withholding
}

/** Look by look, all series of the rule at once: they are one incident. */
function walk(ctx: Context, replay: Replay, all: readonly Series[]): Replay {
  const incident = new PastIncident(ctx)
  const tracked = all.map((series) => ({ series, state: wellState, open: null as ReplayedAlert | null }))
  const last = all[0]?.looks.at(-1)?.at
  for (let index = 0; index < (all[0]?.looks.length ?? 0); index++) {
    const at = all[0]?.looks[index]?.at ?? replay.from
    const news: ReplayedAlert[] = []
    const over: ReplayedAlert[] = []
    const quiet = new Set<ReplayedAlert>()
    for (const one of tracked) {
      const look = one.series.looks[index]
      if (look === undefined) continue
      const { state, change } = lookAt(replay, one, look)
      one.state = state
      if (change === 'firing') {
        one.open = firedAt(one.series, look)
        replay.alerts.push(one.open)
      }
      const alert = one.open
      if (alert === null) continue
      if (change === 'resolved') {
        alert.until = look.at
        over.push(alert)
        one.open = null
        continue
      }
      const { withheld, root, silenced } = one.series.verdict(look.at)
      if (silenced) quiet.add(alert)
      if (alert.told !== null) continue
      if (withheld !== null) hold(alert, withheld, root, look.at)
      // What was held back, and is well again though not yet for long enough to be over, is not told of any more.
      else if (state.wellSince === null) news.push(alert)
    }
    incident.look(at, news, over, quiet)
  }
  for (const alert of replay.alerts) finish(alert, alert.until ?? last ?? alert.at)
  replay.alerts.sort((a, b) => a.at.getTime() - b.at.getTime())
  return replay
}

function lookAt(replay: Replay, { series, state }: { series: Series; state: AlertState }, look: Look) {
  const sample = look.sample(state.status === 'firing')
  replay.looks++
  if (sample === null) replay.unknown++
  if (look.resolution === 'hour' && (replay.hourlyBefore === null || replay.hourlyBefore < look.at)) replay.hourlyBefore = look.at
  return step(state, sample, look.at, series.thresholds)
}

function firedAt({ labels, summary }: Series, look: Look): ReplayedAlert {
  const { at, value, cause, resolution } = look
  return { labels, at, until: null, told: null, page: null, held: [], reminders: 0, value, cause, resolution, summary: summary(look) }
}

function hold(alert: ReplayedAlert, because: NonNullable<Withholding['withheld']>, root: string | null, at: Date): void {
  const before = alert.held.at(-1)
  if (before?.because === because && before.root === root) before.until = at
  else alert.held.push({ from: at, until: at, because, root })
}

/** Each reason holds until the next one, or until it was told of. */
function finish(alert: ReplayedAlert, end: Date): void {
  for (const [index, one] of alert.held.entries()) one.until = alert.held[index + 1]?.from ?? alert.told ?? end
}

function emptyReplay(rule: string, { from, to }: Span, cannotKnow: string[]): Replay {
  return { rule, from, to, alerts: [], unknown: 0, looks: 0, hourlyBefore: null, cannotKnow }
}
