import type { Context } from '../platform/context.ts'
import { divide, type Evaluated, evaluate, statFor } from './evaluate.ts'
import { type FoundSeries, findSeries } from './find-series.ts'
import { apart, combineGauges, gaugeBinSeconds, gaugeWindow, holdsMs } from './gauge-window.ts'
import { markOf } from './marks.ts'
import { type Measure, type MetricQuery, type MetricStat, resolveQuery, type Selection } from './metric-query.ts'
import { minutesKeptMs } from './prune.ts'
import { type BinFigures, type Bins, joinBins, readBins } from './read-bins.ts'
import { latestMs } from './store-batch.ts'

type MeasureContext = Pick<Context, 'db' | 'env' | 'clock'>

const minuteMs = 60_000
const hourMs = 3_600_000
/** A stretch that is longer than this is made of hours, as far as there are any. */
const longMs = 6 * hourMs
/** The app is expected to tell something that often; whoever is silent for longer tells nothing, not zero. */
const silentMs = 600_000

/**
 * What a query says at `at`: one measure, or with `by` one for each label set (none where there is no series). Without data
 * the value is null; a counter of whoever is still telling something has then grown by 0.
 * @throws {CaretakerError} `invalid_input` for an unknown named metric or a statistic the metric does not have;
 *   `database_unavailable`
 */
export async function measure(ctx: MeasureContext, query: MetricQuery, at: Date): Promise<Measure[]> {
  const { stat, of, per } = resolveQuery(query)
  const side = { ...query, stat, at }
  const numerator = await measureSide(ctx, of, side)
  if (per === null) return [...numerator.values()].map(({ labels, evaluated }) => ({ labels, ...evaluated }))
  const denominator = await measureSide(ctx, per, side)
  return [...denominator].map(([key, { labels, evaluated }]) => ({
    labels,
    ...divide(numerator.get(key)?.evaluated ?? numerator.absent, evaluated),
  }))
}

/** The one measure of a query without `by`. */
export async function measureOne(ctx: MeasureContext, query: Omit<MetricQuery, 'by'>, at: Date): Promise<Measure> {
  const [only] = await measure(ctx, query, at)
  return only ?? { labels: {}, value: null, samples: 0 }
}

/** By the group's labels. `absent` is what a group that is not there would say. */
class Side extends Map<string, { labels: Record<string, string>; evaluated: Evaluated }> {
  absent: Evaluated = { value: null, samples: 0 }
}

interface SideQuery {
  by?: readonly string[]
  stat: MetricStat | undefined
  overSeconds: number
  at: Date
}

async function measureSide(ctx: MeasureContext, selection: Selection, { by, stat, overSeconds, at }: SideQuery): Promise<Side> {
  const found = await findSeries(ctx, selection, by)
  const side = new Side()
  if (found.kind === undefined) {
    if (by === undefined) side.set('[]', { labels: {}, evaluated: side.absent })
    return side
  }
  const { kind } = found
  const wanted = statFor(selection.metric, kind, stat)
  const from = nearestMinute(at.getTime() - overSeconds * 1_000)
  const terms = { seconds: Math.max(1, (at.getTime() - from) / 1_000), quiet: await isQuiet(ctx, found, at, overSeconds) }
  side.absent = evaluate(kind, wanted, undefined, terms)
  // Whoever has no series of these labels was never counted under them.
  if (by === undefined && found.groups.length === 0) side.set('[]', { labels: {}, evaluated: side.absent })
  const figures = await (kind === 'gauge' ? readGauges(ctx, found, from, at) : readSums(ctx, found, from, at))
  for (const [index, { labels }] of found.groups.entries())
    side.set(JSON.stringify(Object.values(labels)), { labels, evaluated: evaluate(kind, wanted, figures[index], terms) })
  return side
}

/**
 * The minutes of the stretch; of a long one the whole hours within it that are settled, and the minutes before and after
 * them. Of what is so long ago that its minutes are gone, the hours it touches.
 */
export async function readSums(
  ctx: MeasureContext,
  { groups }: Pick<FoundSeries, 'groups'>,
  from: number,
  at: Date,
): Promise<(BinFigures | undefined)[]> {
  const to = at.getTime()
  const read = (table: 'metric_points' | 'metric_hours', since: number, until: number) =>
    readBins(ctx.db, groups, { table, from: new Date(since), to: new Date(until), binSeconds: (to - from) / 1_000 + 7_200 })
  const parts: Bins[] = []
  const rolled = needsHours(ctx, from, at) ? await markOf(ctx, 'rolled') : null
  const gone = ctx.clock.now().getTime() - minutesKeptMs
  // Hours that may still get late minutes are not read.
  const settled = rolled === null ? Number.NEGATIVE_INFINITY : rolled.getTime() - latestMs - hourMs
  const hoursFrom = from < gone ? Math.floor(from / hourMs) * hourMs : Math.ceil(from / hourMs) * hourMs
  const hoursTo = to < gone ? to : Math.floor(Math.min(to, settled) / hourMs) * hourMs
  if (hoursTo <= hoursFrom) parts.push(await read('metric_points', from, to))
  else {
    if (from < hoursFrom) parts.push(await read('metric_points', from, hoursFrom))
    parts.push(await read('metric_hours', hoursFrom, hoursTo))
    if (hoursTo < to) parts.push(await read('metric_points', hoursTo, to))
  }
  return groups.map((_group, index) => parts.map((bins) => bins[index]?.get(0)).reduce(joinBins, undefined))
}

/** The stretch is long, or so long ago that its minutes are gone. */
function needsHours(ctx: MeasureContext, from: number, at: Date): boolean {
  return at.getTime() - from > longMs || from < ctx.clock.now().getTime() - minutesKeptMs
}

/** Each gauge's looks within the time asked for, or its last one before that. */
async function readGauges(ctx: MeasureContext, { groups }: FoundSeries, from: number, at: Date): Promise<(BinFigures | undefined)[]> {
  if (needsHours(ctx, from, at)) {
    const series = apart(groups)
    const sums = await readSums(ctx, { groups: series }, from, at)
    return groups.map(({ ids }) => combineGauges(sums.filter((_figures, index) => ids.includes(series[index]?.ids[0] ?? ''))))
  }
  const holds = holdsMs(Math.max(60, ...groups.map((group) => group.everySeconds)))
  const origin = Math.floor(Math.min(from, at.getTime() - holds) / minuteMs) * minuteMs
  const series = apart(groups)
  const stretch = { table: 'metric_points', from: new Date(origin), to: at, binSeconds: gaugeBinSeconds } as const
  const bins = await readBins(ctx.db, series, stretch)
  const window = (id: string, everySeconds: number) => {
    const own = bins[series.findIndex(({ ids }) => ids[0] === id)]
    return own === undefined ? undefined : gaugeWindow(own, { origin, from, at: at.getTime(), everySeconds })
  }
  return groups.map(({ ids, everySeconds }) => combineGauges(ids.map((id) => window(id, everySeconds))))
}

/** Whether silence means that nothing happened: Caretaker and log drains always tell; the app only while it tells anything. */
async function isQuiet(ctx: MeasureContext, { sources, kind }: FoundSeries, at: Date, overSeconds: number): Promise<boolean> {
  if (kind === 'gauge') return false
  if ([...sources].some((source) => source !== 'app')) return true
  const told = await markOf(ctx, 'app')
  return told !== null && told.getTime() >= at.getTime() - Math.max(silentMs, overSeconds * 1_000)
}

/** Figures are of whole minutes: the nearest one errs least. */
export function nearestMinute(ms: number): number {
  return Math.round(ms / minuteMs) * minuteMs
}
