import type { AlertState } from './step.ts'

/*
 * When our own network is gone, everything behind it fails at once, and nothing in the tree of dependencies says why. What begins
 * together is one incident.
 */

/** The component that the incident of a storm goes by. */
export const stormComponent = 'several-dependencies'

export const defaultStorm = { atLeast: 5, within: '2 minutes' } as const

/** An alert, as far as it matters for whether it is part of a storm. */
export interface StormCandidate {
  component: string
  source: 'rule' | 'check' | 'event' | 'channel'
  status: AlertState['status']
  since: Date | null
  /** It fails now; a firing one that is found well, and not yet for long enough, does not. */
  failing: boolean
  /** Nothing explains it or keeps it quiet, and somebody is to be told of it. */
  told: boolean
  /** An incident knows of it. */
  announced: boolean
  /** Its check reaches over the internet, and not through the database. */
  remote: boolean
  /** The storm that it is part of, as the look before left it. */
  storm: string | null
}

/** A look comes some seconds early or late, ms. */
const jitterMs = 10_000

/**
 * Which storm each alert is part of: null for those that are told for themselves. A storm begins when at least `atLeast` checks that reach
 * over the internet began to fail within `withinMs` of each other; what begins in that time joins it, and so does whatever else is wrong
 * with the same components. When fewer than that, and fewer than half of them, are left, those that still fail are told for themselves.
 */
export function stormsOf(
  alerts: readonly StormCandidate[],
  { atLeast, withinMs }: { atLeast: number; withinMs: number },
): (string | null)[] {
  const running = new Set(alerts.flatMap(({ status, storm }) => (status === 'firing' && storm !== null ? [storm] : [])))
  const storms = alerts.map(({ storm }) => (storm !== null && running.has(storm) ? storm : null))
  const isCheck = (index: number) => alerts[index]?.source === 'check'
  for (const storm of running) {
    const members = storms.flatMap((one, index) => (one === storm && isCheck(index) ? [index] : []))
    const left = members.filter((index) => alerts[index]?.status === 'firing')
    if (left.length >= atLeast || left.length * 2 >= members.length) continue
    running.delete(storm)
    for (const [index, alert] of alerts.entries()) if (storms[index] === storm && alert.failing && alert.told) storms[index] = null
  }

  const free = alerts.flatMap(({ source, status, since, failing, told, announced, remote }, index) =>
    source === 'check' && status === 'firing' && failing && told && remote && since !== null && storms[index] === null
      ? [{ index, announced, atMs: since.getTime() }]
      : [],
  )
  const patienceMs = withinMs + jitterMs
  for (const storm of running)
    for (const { index, atMs } of free) if (Math.abs(atMs - new Date(storm).getTime()) <= patienceMs) storms[index] ??= storm
  const alone = free.filter(({ index }) => storms[index] === null)
  const together = alone
    .filter(({ announced }) => !announced)
    .map(({ atMs }) => alone.filter((one) => one.atMs <= atMs && atMs - one.atMs <= patienceMs))
    .reduce((most, one) => (one.length > most.length ? one : most), [])
  if (together.length >= atLeast) {
    const began = new Date(Math.min(...together.map(({ atMs }) => atMs))).toISOString()
    for (const { index } of together) storms[index] = began
  }

  // An error rate of the same component is no second cause.
  const ofChecks = new Map(
    alerts.flatMap(({ component, status }, index) =>
      isCheck(index) && status === 'firing' && storms[index] != null ? [[component, storms[index]]] : [],
    ),
  )
  for (const [index, { source, status, component }] of alerts.entries())
    if (source !== 'check' && status === 'firing') storms[index] = ofChecks.get(component) ?? null
  return storms
}

const namesShown = 6

/** "7 dependencies began to fail together: stripe, openai, hume, …", the most severe first. */
export function stormTitle(alerts: readonly { component: string }[]): string {
  const names = [...new Set(alerts.map(({ component }) => component))]
  const more = names.length - namesShown
  const shown = more > 1 ? `${names.slice(0, namesShown).join(', ')} and ${more} more` : names.join(', ')
  return `${names.length} ${names.length === 1 ? 'dependency' : 'dependencies'} began to fail together: ${shown}`
}
