import { type AlertRule, durationMs, nearest } from '../config/index.ts'
import type { Context } from '../platform/context.ts'
import { CaretakerError } from '../platform/errors.ts'
import { type Condition, checkConditions, checkRule, keepFiringForMs, ruleSummary, thresholdsOf } from './conditions.ts'
import { judge } from './judge.ts'
import { figureQuery } from './look.ts'
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
  /** When people would have heard of it; null where all of it was held back. */
  paged: Date | null
  /** What they would have heard first: a new incident, or one that came back within a reminder period; null where nothing. */
  page: 'opened' | 'reopened' | null
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
    walk(ctx, replay, looks, { labels, thresholds, verdict, summary: ({ value }) => ruleSummary(rule, { labels, value }) })
  }
  return inOrder(replay)
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
  walk(ctx, replay, checkLooks(changes, lookTimes(span)), {
    labels: {},
    thresholds: { ...thresholds, keepFiringForMs: keepFiringForMs(ctx.config) },
    verdict: (at) => around.verdict(at, {}),
    summary: ({ cause }) => (cause === null ? component : `${component}: ${words.get(cause) ?? cause}`),
  })
  return inOrder(replay)
}

interface Series {
  labels: Record<string, string>
  thresholds: Thresholds
  summary(look: Look): string
  /** What would have held it back at that time, had it fired. */
  verdict(at: Date): Withholding
}

/** One series, look by look. */
function walk(ctx: Context, replay: Replay, looks: readonly Look[], series: Series): void {
  const remindMs = durationMs(ctx.config.alerts?.remindEvery ?? '4 hours')
  const last = looks.at(-1)?.at
  let state: AlertState = wellState
  let open: ReplayedAlert | null = null
  /** When the last incident of it that people heard of ended. */
  let ended: Date | null = null
  for (const look of looks) {
    const sample = look.sample(state.status === 'firing')
    replay.looks++
    if (sample === null) replay.unknown++
    if (look.resolution === 'hour') replay.hourlyBefore = look.at
    const after = step(state, sample, look.at, series.thresholds)
    state = after.state
    if (after.change === 'firing') {
      const { value, cause, resolution } = look
      open = {
        ...{ labels: series.labels, at: look.at, until: null, paged: null, page: null, held: [], reminders: 0 },
        ...{ value, cause, resolution, summary: series.summary(look) },
      }
      replay.alerts.push(open)
    }
    if (after.change === 'resolved' && open !== null) {
      open.until = look.at
      if (open.paged !== null) ended = look.at
      finish(open, look.at, remindMs)
      open = null
    } else if (open !== null && open.paged === null) {
      const { withheld, root } = series.verdict(look.at)
      if (withheld !== null) hold(open, withheld, root, look.at)
      // What was held back, and is well again though not yet for long enough to be over, is not told of any more.
      else if (state.wellSince === null) {
        open.paged = look.at
        open.page = ended !== null && look.at.getTime() - ended.getTime() < remindMs ? 'reopened' : 'opened'
      }
    }
  }
  if (open !== null && last !== undefined) finish(open, last, remindMs)
}

function hold(alert: ReplayedAlert, because: NonNullable<Withholding['withheld']>, root: string | null, at: Date): void {
  const before = alert.held.at(-1)
  if (before?.because === because && before.root === root) before.until = at
  else alert.held.push({ from: at, until: at, because, root })
}

/** Each reason holds until the next one, or until people heard. */
function finish(alert: ReplayedAlert, end: Date, remindMs: number): void {
  for (const [index, one] of alert.held.entries()) one.until = alert.held[index + 1]?.from ?? alert.paged ?? end
  if (alert.paged !== null) alert.reminders = Math.floor((end.getTime() - alert.paged.getTime()) / remindMs)
}

function emptyReplay(rule: string, { from, to }: Span, cannotKnow: string[]): Replay {
  return { rule, from, to, alerts: [], unknown: 0, looks: 0, hourlyBefore: null, cannotKnow }
}

function inOrder(replay: Replay): Replay {
  replay.alerts.sort((a, b) => a.at.getTime() - b.at.getTime())
  return replay
}
