const hourMs = 3_600_000
const dayMs = 24 * hourMs
const weeks = 4

/** Events that arrived in the hour that begins at `hour`, ms since 1970. Hours without any are left out. */
export type HourlyCounts = ReadonlyMap<number, number>

/**
 * How many events would usually have come between `from` and `until`: for each hour what is usual at that hour of the
 * week, or for each whole day what is usual on that day of the week, whichever is more. Usual is the median of the four
 * weeks before `from`, so that a single burst, or a single quiet week, says nothing. Zero where less than two weeks are known.
 */
export function expectedEvents(counts: HourlyCounts, from: Date, until: Date): number {
  const hours = [...counts.keys()]
  const first = hours.length === 0 ? Number.POSITIVE_INFINITY : Math.min(...hours)
  const known = Math.min(weeks, Math.floor((from.getTime() - first) / (7 * dayMs)))
  if (known < 2) return 0
  const usual = (start: number, length: number): number => {
    const totals = Array.from({ length: known }, (_, index) => {
      // Whole weeks back, from before the silence: the silence itself is not what is usual.
      const back = Math.ceil((start + length - from.getTime()) / (7 * dayMs)) + index
      return total(counts, start - Math.max(1, back) * 7 * dayMs, length)
    })
    return totals.sort((a, b) => a - b)[Math.floor((totals.length - 1) / 2)] ?? 0
  }
  let byHour = 0
  for (let hour = floor(from, hourMs); hour < until.getTime(); hour += hourMs) {
    const share = (Math.min(hour + hourMs, until.getTime()) - Math.max(hour, from.getTime())) / hourMs
    byHour += usual(hour, hourMs) * share
  }
  let byDay = 0
  for (let day = Math.ceil(from.getTime() / dayMs) * dayMs; day + dayMs <= until.getTime(); day += dayMs) byDay += usual(day, dayMs)
  return Math.max(byHour, byDay)
}

function total(counts: HourlyCounts, start: number, length: number): number {
  let sum = 0
  for (let hour = start; hour < start + length; hour += hourMs) sum += counts.get(hour) ?? 0
  return sum
}

function floor(date: Date, unit: number): number {
  return Math.floor(date.getTime() / unit) * unit
}
