import type { Context } from '../platform/context.ts'
import { CaretakerError } from '../platform/errors.ts'
import { divide, type Evaluated, evaluate, statFor } from './evaluate.ts'
import type { MetricKind } from './figures.ts'
import { findSeries, type SeriesGroup } from './find-series.ts'
import { apart, combineGauges, gaugeBinSeconds, gaugeWindow, holdsMs } from './gauge-window.ts'
import { markOf } from './marks.ts'
import { nearestMinute } from './measure.ts'
import { type MetricQuery, type MetricStat, resolveQuery, type Selection } from './metric-query.ts'
import { minutesKeptMs } from './prune.ts'
import { type BinFigures, joinBins, readBins } from './read-bins.ts'
import { latestMs } from './store-batch.ts'

export interface MeasuredAt {
  at: Date
  /** What `measure` says, or said, at that time. */
  value: number | null
  /** How many observations it stands on. */
  samples: number
  /** `hour`: minutes are no longer kept, so that the value is that of its whole hour. */
  resolution: 'minute' | 'hour'
}

const minuteMs = 60_000
const hourMs = 3_600_000
/** More points than anybody looks at: a month of minutes has 43,200. */
const mostSteps = 100_000

/**
 * What a query said at each step from `from` to `to` (both ends), oldest first: its value over the `overSeconds` before.
 * @throws {CaretakerError} `invalid_input` for what `measure` refuses, and for more than 100,000 steps
 */
export async function measureSeries(
  ctx: Pick<Context, 'db' | 'env' | 'clock'>,
  query: Omit<MetricQuery, 'by'>,
  { from, to, stepSeconds }: { from: Date; to: Date; stepSeconds: number },
): Promise<MeasuredAt[]> {
  const { stat, of, per } = resolveQuery(query)
  const count = Math.floor((to.getTime() - from.getTime()) / (stepSeconds * 1_000)) + 1
  if (!(stepSeconds >= 1) || count > mostSteps)
    throw new CaretakerError(
      'invalid_input',
      `stepSeconds: found ${stepSeconds}, which makes more than ${mostSteps} steps; expected more seconds.`,
    )
  const steps = Array.from({ length: Math.max(0, count) }, (_, index) => from.getTime() + index * stepSeconds * 1_000)
  if (steps.length === 0) return []
  const asked = { stat, overMs: query.overSeconds * 1_000, stepMs: stepSeconds * 1_000, steps }
  const numerator = await sideOf(ctx, of, asked)
  const denominator = per === null ? null : await sideOf(ctx, per, asked)
  return steps.map((at, index) => {
    const one = numerator(index)
    const { value, samples } = denominator === null ? one : divide(one, denominator(index))
    return { at: new Date(at), value, samples, resolution: at - asked.overMs >= minutesSince(ctx) ? 'minute' : 'hour' }
  })
}

interface Asked {
  stat: MetricStat | undefined
  overMs: number
  stepMs: number
  steps: readonly number[]
}

/** Since when there are minutes, for certain. */
function minutesSince(ctx: Pick<Context, 'clock'>): number {
  return Math.ceil((ctx.clock.now().getTime() - minutesKeptMs) / hourMs) * hourMs
}

/** One side's value at each step. */
async function sideOf(
  ctx: Pick<Context, 'db' | 'env' | 'clock'>,
  selection: Selection,
  asked: Asked,
): Promise<(index: number) => Evaluated> {
  const found = await findSeries(ctx, selection)
  const [group] = found.groups
  if (found.kind === undefined) return () => ({ value: null, samples: 0 })
  const { kind } = found
  const stat = statFor(selection.metric, kind, asked.stat)
  const quiet = (seconds: number) => evaluate(kind, stat, undefined, { seconds, quiet: true })
  if (group === undefined) return () => quiet(asked.overMs / 1_000)
  const since = minutesSince(ctx)
  // Steps of hours are made of hours: a week of minutes would be read for a plot of eighty points.
  const coarse = kind !== 'gauge' && Math.min(asked.stepMs, asked.overMs) >= hourMs
  const byMinute = coarse ? -1 : asked.steps.findIndex((at) => at - asked.overMs >= since)
  const old = byMinute < 0 ? asked.steps.length : byMinute
  const hourly = await hoursOf(ctx, group, kind, stat, { ...asked, steps: asked.steps.slice(0, old) })
  const minutely = await minutesOf(ctx, group, kind, stat, { ...asked, steps: asked.steps.slice(old) })
  return (index) => (index < old ? hourly[index] : minutely[index - old]) ?? { value: null, samples: 0 }
}

/** From minutes: each step's window is the bins within it. */
async function minutesOf(
  ctx: Pick<Context, 'db'>,
  group: SeriesGroup,
  kind: MetricKind,
  stat: MetricStat,
  { overMs, stepMs, steps }: Asked,
): Promise<Evaluated[]> {
  const [first] = steps
  const end = steps.at(-1)
  if (first === undefined || end === undefined) return []
  const terms = { seconds: overMs / 1_000, quiet: true }
  const to = new Date(end)
  if (kind === 'gauge') {
    const origin = nearestMinute(first - Math.max(overMs, holdsMs(group.everySeconds)))
    const stretch = { table: 'metric_points', from: new Date(origin), to, binSeconds: gaugeBinSeconds } as const
    const gauges = await readBins(ctx.db, apart([group]), stretch)
    const { everySeconds } = group
    return steps.map((at) => {
      const window = { origin, from: nearestMinute(at - overMs), at, everySeconds }
      return evaluate(kind, stat, combineGauges(gauges.map((bins) => gaugeWindow(bins, window))), terms)
    })
  }
  // A step that is as long as its window needs one bin; one that is several times shorter as many. Steps between two minutes
  // are all rounded alike.
  const whole = stepMs % minuteMs === 0 && overMs % minuteMs === 0 ? greatestCommonDivisor(stepMs, overMs) : minuteMs
  const binMs = first % minuteMs === 0 || whole > minuteMs ? whole : minuteMs
  const binsOf = (at: number) =>
    (first % minuteMs !== 0 && whole > minuteMs ? overMs / binMs : undefined) ?? (at - nearestMinute(at - overMs)) / binMs
  const origin = nearestMinute(first - overMs)
  const stretch = { table: 'metric_points', from: new Date(origin), to, binSeconds: binMs / 1_000 } as const
  const [bins = new Map<number, BinFigures>()] = await readBins(ctx.db, [group], stretch)
  return steps.map((at) => {
    let figures: BinFigures | undefined
    const firstBin = Math.round((nearestMinute(at - overMs) - origin) / binMs)
    for (let bin = firstBin; bin < firstBin + binsOf(at); bin++) figures = joinBins(figures, bins.get(bin))
    return evaluate(kind, stat, figures, terms)
  })
}

/**
 * From hours, the last of them from their minutes: the ones within the window, or the one the step lies in, of which the
 * window has its share.
 */
async function hoursOf(
  ctx: Pick<Context, 'db' | 'env' | 'clock'>,
  group: SeriesGroup,
  kind: MetricKind,
  stat: MetricStat,
  { overMs, steps }: Asked,
): Promise<Evaluated[]> {
  const [first] = steps
  const end = steps.at(-1)
  if (first === undefined || end === undefined) return []
  const origin = Math.floor((first - Math.max(overMs, hourMs)) / hourMs) * hourMs
  const rolled = (await markOf(ctx, 'rolled'))?.getTime() ?? Number.NEGATIVE_INFINITY
  // Hours that may still get late minutes are made of these.
  const border = Math.max(origin, Math.min(end, rolled - latestMs - hourMs))
  const read = async (table: 'metric_hours' | 'metric_points', since: number, to: number) => {
    const [bins = new Map<number, BinFigures>()] = await readBins(ctx.db, [group], {
      table,
      from: new Date(since),
      to: new Date(to),
      binSeconds: hourMs / 1_000,
    })
    return [...bins].map(([bin, figures]) => [bin + (since - origin) / hourMs, figures] as const)
  }
  const bins = new Map([...(await read('metric_hours', origin, border)), ...(await read('metric_points', border, end))])
  const now = ctx.clock.now().getTime()
  return steps.map((at) => {
    const own = Math.ceil((at - origin) / hourMs) - 1
    const many = Math.max(1, Math.round(overMs / hourMs))
    let figures: BinFigures | undefined
    for (let bin = own - many + 1; bin <= own; bin++) figures = joinBins(figures, bins.get(bin))
    const seconds = (Math.min(origin + (own + 1) * hourMs, now) - origin - (own - many + 1) * hourMs) / 1_000
    const evaluated = evaluate(kind, stat, figures, { seconds: Math.max(1, seconds), quiet: true })
    // Of a count over five minutes an hour tells the twelfth part of its own.
    const part = stat === 'sum' && kind !== 'gauge' ? Math.min(1, overMs / (many * hourMs)) : 1
    return {
      value: evaluated.value === null ? null : evaluated.value * part,
      samples: Math.round(evaluated.samples * Math.min(1, overMs / (many * hourMs))),
    }
  })
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b)
}
