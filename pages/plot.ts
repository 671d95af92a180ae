import { type Html, html } from './html.ts'

export type DayState = 'up' | 'partial' | 'down' | 'maintenance' | 'unknown'

/**
 * A bar for each day, oldest first, as one SVG. A run of equal days is one line whose dashes are the days, and the most
 * frequent state one line below all others, so that ninety days weigh some hundred bytes. `summary` says in words what the bars show: it is what a screen reader reads.
 */
export function dayBars(given: { days: readonly DayState[]; summary: string }): Html {
  const { days, summary } = given
  const count = (state: DayState | undefined) => days.filter((one) => one === state).length
  const base = [...new Set(days)].reduce<DayState | undefined>((most, one) => (count(one) > count(most) ? one : most), undefined)
  const runs = new Map<DayState, string>(base === undefined ? [] : [[base, `M0 5h${days.length}`]])
  for (let from = 0; from < days.length; ) {
    const state = days[from] as DayState
    let to = from + 1
    while (to < days.length && days[to] === state) to++
    if (state !== base) runs.set(state, `${runs.get(state) ?? ''}M${from} 5h${to - from}`)
    from = to
  }
  return html`<svg class="days" viewBox="0 0 ${days.length} 10" preserveAspectRatio="none" role="img" aria-label="${summary}">${[
    ...runs,
  ].map(([state, path]) => html`<path class="d-${state}" d="${path}"/>`)}</svg>`
}

export interface Series {
  name: string
  /** Null: nothing was measured, and the line has a gap. */
  points: readonly { at: Date; value: number | null }[]
}

export interface LinePlot {
  title: string
  /** Of the title, in the order of the page's headings. Default h3. */
  heading?: 'h2' | 'h3'
  /** What is to be seen in it, in a sentence; read out in place of the picture. */
  description: string
  /** At most three. */
  series: readonly Series[]
  from: Date
  to: Date
  /** A value as text, with its unit. */
  format(value: number): string
  /** A time as text, for the axis and the table. */
  formatTime(at: Date): string
  /** What stands there in place of lines when nothing was measured. */
  empty: string
  /** A level worth a line of its own, such as an alert's threshold. */
  limit?: { value: number; name: string }
}

const width = 640
const height = 200
const left = 72
const bottom = 28
const top = 10

/** Lines over time with a key, and the same figures as a table for who cannot see them. */
export function linePlot(plot: LinePlot): Html {
  const { series, from, to } = plot
  const title = plot.heading === 'h2' ? html`<h2>${plot.title}</h2>` : html`<h3>${plot.title}</h3>`
  const values = series.flatMap(({ points }) => points.flatMap(({ value }) => (value === null ? [] : [value])))
  if (values.length === 0) return html`<figure class="plot"><figcaption>${title}</figcaption><p class="soft">${plot.empty}</p></figure>`
  const highest = niceCeiling(Math.max(...values, plot.limit?.value ?? 0))
  const x = (at: Date) => left + ((at.getTime() - from.getTime()) / (to.getTime() - from.getTime())) * (width - left - 8)
  const y = (value: number) => top + (1 - value / highest) * (height - top - bottom)
  const rows = [0, 0.5, 1].map((part) => {
    const value = highest * part
    return html`<path class="gl" d="M${left} ${short(y(value))}H${width - 8}"/><text x="${left - 6}" y="${short(y(value) + 4)}" text-anchor="end">${plot.format(value)}</text>`
  })
  const times = [0, 1 / 3, 2 / 3, 1].map((part) => {
    const at = new Date(from.getTime() + (to.getTime() - from.getTime()) * part)
    const anchor = part === 0 ? 'start' : part === 1 ? 'end' : 'middle'
    return html`<text${anchor === 'middle' && html` class="mid"`} x="${short(x(at))}" y="${height - 4}" text-anchor="${anchor}">${plot.formatTime(at)}</text>`
  })
  const limit =
    plot.limit !== undefined &&
    html`<path class="ln d-down" stroke-dasharray="3 3" d="M${left} ${short(y(plot.limit.value))}H${width - 8}"/><text x="${width - 8}" y="${short(y(plot.limit.value) - 4)}" text-anchor="end">${plot.limit.name}</text>`
  return html`<figure class="plot"><figcaption>${title}</figcaption>
<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${plot.title}: ${plot.description}">${rows}${times}${limit}${series.map(
    ({ points }, index) => html`<path class="ln s${index + 1}" d="${line(points, x, y)}"/>`,
  )}</svg>
<ul class="key" aria-hidden="true">${series.map(({ name }, index) => html`<li><svg viewBox="0 0 30 10"><path class="ln s${index + 1}" d="M0 5H30"/></svg>${name}</li>`)}</ul>
<details><summary>${plot.title} as a table</summary>${tableOf(plot)}</details></figure>`
}

/** A path with gaps where nothing was measured; a single value between gaps is a short stroke. */
function line(points: Series['points'], x: (at: Date) => number, y: (value: number) => number): string {
  let path = ''
  for (const [index, { at, value }] of points.entries()) {
    if (value === null) continue
    const place = `${short(x(at))} ${short(y(value))}`
    const begins = (points[index - 1]?.value ?? null) === null
    const alone = begins && (points[index + 1]?.value ?? null) === null
    path += alone ? `M${place}m-3 0h6` : begins ? `M${place}` : `L${place}`
  }
  return path
}

/** At most 24 rows: for more points every n-th. */
function tableOf({ title, series, format, formatTime }: LinePlot): Html {
  const times = series[0]?.points.map(({ at }) => at) ?? []
  const step = Math.max(1, Math.ceil(times.length / 24))
  const chosen = times.map((at, index) => ({ at, index })).filter(({ index }) => index % step === 0)
  return html`<table><caption>${title}</caption><thead><tr><th scope="col">Time</th>${series.map(
    ({ name }) => html`<th scope="col" class="num">${name}</th>`,
  )}</tr></thead><tbody>${chosen.map(
    ({ at, index }) =>
      html`<tr><th scope="row"><time datetime="${at.toISOString()}">${formatTime(at)}</time></th>${series.map(({ points }) => {
        const value = points[index]?.value ?? null
        return html`<td class="num">${value === null ? 'no data' : format(value)}</td>`
      })}</tr>`,
  )}</tbody></table>`
}

/** The next of 1, 2, 5, 10, 20, … at or above the value. */
function niceCeiling(value: number): number {
  if (value <= 0) return 1
  const power = 10 ** Math.floor(Math.log10(value))
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.9999) ?? value
}

function short(value: number): string {
  return String(Math.round(value * 10) / 10)
}
