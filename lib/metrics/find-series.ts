import type { Context } from '../platform/context.ts'
import type { Row } from '../platform/db.ts'
import { environmentOf } from '../platform/environment.ts'
import type { Labels } from './batch.ts'
import type { MetricKind, MetricSource } from './figures.ts'
import type { Selection } from './metric-query.ts'
import { clockService } from './own-metrics.ts'

/** A stored series that a selection takes, or could have taken. */
interface Series extends Row {
  id: string
  labels: Labels
  kind: MetricKind
  source: MetricSource
  everySeconds: number | null
  /** It has figures of the last days. */
  alive: boolean
}

/** Series that are measured as one. */
export interface SeriesGroup {
  labels: Record<string, string>
  ids: string[]
  /** The longest of its gauges' intervals. */
  everySeconds: number
}

export interface FoundSeries {
  /** Undefined where nobody has told of the metric yet. */
  kind: MetricKind | undefined
  groups: SeriesGroup[]
  /** Who tells the metric. */
  sources: ReadonlySet<MetricSource>
}

/** The series of a selection, in groups of equal `by` labels. */
export async function findSeries(ctx: Pick<Context, 'db' | 'env'>, selection: Selection, by: readonly string[] = []): Promise<FoundSeries> {
  const all = await ctx.db.query<Series>(
    `select s.id::text, s.labels, s.kind, s.source, s.every_s as "everySeconds",
       exists (select from caretaker.metric_points p where p.series = s.id) as alive
     from caretaker.metric_series s where s.environment = $1::text and s.name = $2::text order by s.id`,
    [environmentOf(ctx), selection.metric],
  )
  const told = selection.from === 'http' ? preferred(all) : all
  const groups = new Map<string, SeriesGroup>()
  for (const series of told) {
    if (!takes(selection.where, series.labels)) continue
    const labels = Object.fromEntries(by.map((name) => [name, series.labels[name] ?? '']))
    const key = JSON.stringify(Object.values(labels))
    const group = groups.get(key) ?? { labels, ids: [], everySeconds: 0 }
    groups.set(key, group)
    group.ids.push(series.id)
    group.everySeconds = Math.max(group.everySeconds, series.everySeconds ?? 60)
  }
  return { kind: told[0]?.kind, groups: [...groups.values()], sources: new Set(told.map(({ source }) => source)) }
}

/** The app's own word before the log drain's, and what Caretaker's functions answered only where neither says anything. */
function preferred(all: readonly Series[]): Series[] {
  const own = all.filter(({ source, labels }) => source === 'caretaker' && labels.service !== clockService)
  for (const source of ['app', 'logs'] as const) {
    const told = all.filter((series) => series.source === source)
    if (told.some(({ alive }) => alive)) return told
  }
  return own
}

/** Whether the labels have an accepted value each; `5xx` accepts every status of that class. */
export function takes(where: Selection['where'], labels: Labels): boolean {
  return Object.entries(where).every(([name, accepted]) => {
    const value = labels[name] ?? ''
    return accepted.some((one) => value === one || (/^[1-5]xx$/.test(one) && new RegExp(`^${one[0]}\\d\\d$`).test(value)))
  })
}
