import type { SeriesGroup } from './find-series.ts'
import { type BinFigures, joinBins } from './read-bins.ts'

export const gaugeBinSeconds = 60
const binMs = gaugeBinSeconds * 1_000

/** How long a look holds: twice the time between two looks, and the minute it lies in. */
export function holdsMs(everySeconds: number): number {
  return (2 * everySeconds + 60) * 1_000
}

/** Each series for itself: several gauges have a last value each. */
export function apart(groups: readonly SeriesGroup[]): SeriesGroup[] {
  return groups.flatMap((group) => group.ids.map((id) => ({ ...group, ids: [id] })))
}

/**
 * What one gauge says of [from, at): its looks in there, or else the last one before, as long as it holds. `bins` are
 * minutes from `origin` on.
 */
export function gaugeWindow(
  bins: ReadonlyMap<number, BinFigures>,
  { origin, from, at, everySeconds }: { origin: number; from: number; at: number; everySeconds: number },
): BinFigures | undefined {
  const firstBin = Math.round((from - origin) / binMs)
  const lastBin = Math.ceil((at - origin) / binMs) - 1
  let figures: BinFigures | undefined
  for (let bin = firstBin; bin <= lastBin; bin++) figures = joinBins(figures, bins.get(bin))
  if (figures !== undefined) return figures
  const oldest = Math.ceil((at - holdsMs(everySeconds) - origin) / binMs)
  for (let bin = firstBin - 1; bin >= oldest; bin--) {
    const held = bins.get(bin)
    if (held !== undefined) return { ...held, count: 1, sum: held.last, min: held.last, max: held.last }
  }
  return undefined
}

/** Several gauges as one: the greatest of their last values, and the sum of these. */
export function combineGauges(gauges: readonly (BinFigures | undefined)[]): BinFigures | undefined {
  return gauges.reduce((one, other) => {
    const joined = joinBins(one, other)
    if (one === undefined || other === undefined || joined === undefined) return joined
    return { ...joined, last: Math.max(one.last, other.last), lastSum: one.lastSum + other.lastSum }
  }, undefined)
}
