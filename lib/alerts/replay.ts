import { type AlertRule, durationMs, nearest } from '../config/index.ts'
import type { Context } from '../platform/context.ts'
import { CaretakerError } from '../platform/errors.ts'
import { checkConditions, checkRule, keepFiringForMs, ruleSummary, thresholdsOf } from './conditions.ts'
import { judge } from './judge.ts'
import { figureQuery } from './look.ts'
import type { AlertSources } from './sources.ts'
import { type AlertState, type Sample, step, type Thresholds, wellState } from './step.ts'

/** A time in which the rule would have fired. */
export interface ReplayedAlert {
  labels: Record<string, string>
  at: Date
  /** Null: it would fire still. */
  until: Date | null
  /** What people would have heard first: a new incident, or one that came back within a reminder period. */
  page: 'opened' | 'reopened'
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
}

const minuteMs = 60_000
/** A month of minutes has 43,200; a longer time is looked at less often. */
const mostLooks = 90_000

/**
 * What a rule would have paged, over history that is stored: the same step function as live, look by look. Whatever was silenced,
 * under maintenance or explained by another component is told here too. `rule` is one of the policy, enabled or not; one that is given
 * whole; or a check.
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
  if (typeof input.rule !== 'string') return replayFigures(ctx, sources, input.rule, span)
  const named = input.rule
  const rules = ctx.config.alerts?.rules ?? []
  const rule = rules.find(({ name }) => name === named)
  if (rule !== undefined) return replayFigures(ctx, sources, rule, span)
  const observations = await sources.health(ctx)
  const conditions = checkConditions(ctx.config, observations, (cause) => cause)
  const condition = conditions.find((one) => one.rule === named || one.rule === checkRule(named))
  if (condition === undefined) {
    const near = nearest(named, [...rules.map(({ name }) => name), ...conditions.flatMap((one) => [one.rule, one.component])])
    throw new CaretakerError(
      'not_found',
      `There is no rule "${named.slice(0, 60)}"${near === undefined ? '' : `; did you mean "${near}"?`}${near === undefined ? '.' : ''} \`caretaker alerts rules\` lists them. Events cannot be replayed.`,
    )
  }
  return replayCheck(ctx, sources, { ...condition, check: condition.component }, span)
}

interface Span {
  from: Date
  to: Date
  stepMs: number
}

interface Look {
  at: Date
  value: number | null
  cause: string | null
  resolution: 'minute' | 'hour'
  sample(firing: boolean): Sample
}

async function replayFigures(ctx: Context, sources: AlertSources, rule: AlertRule, span: Span): Promise<Replay> {
  const query = figureQuery(rule)
  const { by, ...whole } = query
  // Every label set there was in that time.
  const sets =
    by === undefined
      ? [{}]
      : (await sources.measure(ctx, { ...query, overSeconds: (span.to.getTime() - span.from.getTime()) / 1_000 }, span.to)).map(
          ({ labels }) => labels,
        )
  const replay = emptyReplay(rule.name, span)
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
    walk(ctx, replay, looks, { labels, thresholds, summary: ({ value }) => ruleSummary(rule, { labels, value }) })
  }
  return inOrder(replay)
}

async function replayCheck(
  ctx: Context,
  sources: AlertSources,
  condition: { rule: string; check: string; thresholds: Thresholds },
  span: Span,
): Promise<Replay> {
  const changes = (await sources.healthChanges(ctx, span)).filter(({ check }) => check === condition.check)
  const replay = emptyReplay(condition.rule, span)
  const words = new Map<string, string>()
  for (const { cause } of changes) if (cause !== null) words.set(cause, await sources.words(cause))
  const looks: Look[] = []
  let next = 0
  let now: (typeof changes)[number] | undefined
  for (let at = span.from.getTime(); at <= span.to.getTime(); at += span.stepMs) {
    while ((changes[next]?.at.getTime() ?? Number.POSITIVE_INFINITY) <= at) now = changes[next++]
    const status = now?.status ?? 'unknown'
    const sample = status === 'down' ? true : status === 'up' ? false : null
    looks.push({ at: new Date(at), value: null, cause: now?.cause ?? null, resolution: 'minute', sample: () => sample })
  }
  walk(ctx, replay, looks, {
    labels: {},
    thresholds: { ...condition.thresholds, keepFiringForMs: keepFiringForMs(ctx.config) },
    summary: ({ cause }) => (cause === null ? condition.check : `${condition.check}: ${words.get(cause) ?? cause}`),
  })
  return inOrder(replay)
}

/** One series, look by look. */
function walk(
  ctx: Context,
  replay: Replay,
  looks: readonly Look[],
  series: { labels: Record<string, string>; thresholds: Thresholds; summary(look: Look): string },
): void {
  const remindMs = durationMs(ctx.config.alerts?.remindEvery ?? '4 hours')
  let state: AlertState = wellState
  let open: ReplayedAlert | null = null
  let ended: Date | null = null
  for (const look of looks) {
    const sample = look.sample(state.status === 'firing')
    replay.looks++
    if (sample === null) replay.unknown++
    if (look.resolution === 'hour') replay.hourlyBefore = look.at
    const after = step(state, sample, look.at, series.thresholds)
    state = after.state
    if (after.change === 'firing') {
      open = {
        labels: series.labels,
        at: look.at,
        until: null,
        page: ended !== null && look.at.getTime() - ended.getTime() < remindMs ? 'reopened' : 'opened',
        reminders: 0,
        value: look.value,
        cause: look.cause,
        summary: series.summary(look),
        resolution: look.resolution,
      }
      replay.alerts.push(open)
    } else if (after.change === 'resolved' && open !== null) {
      open.until = look.at
      ended = look.at
      open = null
    }
  }
  for (const alert of replay.alerts) {
    const until = alert.until ?? looks.at(-1)?.at ?? alert.at
    alert.reminders = Math.floor((until.getTime() - alert.at.getTime()) / remindMs)
  }
}

function emptyReplay(rule: string, { from, to }: Span): Replay {
  return { rule, from, to, alerts: [], unknown: 0, looks: 0, hourlyBefore: null }
}

function inOrder(replay: Replay): Replay {
  replay.alerts.sort((a, b) => a.at.getTime() - b.at.getTime())
  return replay
}
