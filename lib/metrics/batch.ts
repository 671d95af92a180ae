import { type Figures, figuresOf, type MetricKind, type MetricSource, mergeInto } from './figures.ts'

export type Labels = Readonly<Record<string, string>>

/** What makes a series one: its name and its labels. The rest describes it. */
export interface SeriesIdentity {
  name: string
  labels: Labels
  kind: MetricKind
  source: MetricSource
  unit?: string | undefined
  help?: string | undefined
  /** Of gauges: how often they are looked at, seconds. */
  everySeconds?: number | undefined
}

export interface BatchSeries {
  identity: SeriesIdentity
  /** By minute since 1970. */
  minutes: Map<number, Figures>
}

/** Observations on their way to the database, added up by series and minute. */
export class Batch {
  readonly series = new Map<string, BatchSeries>()

  get empty(): boolean {
    return this.series.size === 0
  }

  /** How many figures are held: series times minutes. */
  get size(): number {
    let size = 0
    for (const { minutes } of this.series.values()) size += minutes.size
    return size
  }

  /** One value of one series. A counter's value is what it has grown by; `count` says how often the value was seen. */
  add(identity: SeriesIdentity, value: number, at: Date, count = 1): void {
    this.merge(identity, Math.floor(at.getTime() / 60_000), figuresOf(value, identity.kind, count))
  }

  merge(identity: SeriesIdentity, minute: number, figures: Figures): void {
    const key = seriesKey(identity)
    let series = this.series.get(key)
    if (series === undefined) {
      series = { identity, minutes: new Map() }
      this.series.set(key, series)
    }
    const there = series.minutes.get(minute)
    if (there === undefined) series.minutes.set(minute, figures)
    else mergeInto(there, figures)
  }

  /** Puts back what could not be stored. */
  mergeBatch(older: Batch): void {
    for (const { identity, minutes } of older.series.values())
      for (const [minute, figures] of minutes) this.merge(identity, minute, figures)
  }
}

/** The same for the same name and labels, in whatever order these are. */
export function seriesKey({ name, labels }: Pick<SeriesIdentity, 'name' | 'labels'>): string {
  const sorted = Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1))
  return JSON.stringify([name, ...sorted])
}
