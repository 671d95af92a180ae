import { type Matcher, matchesAll } from './matchers.ts'
import type { Maintenance } from './sources.ts'
import type { AlertState } from './step.ts'

/** An alert, as far as it matters for whether it is told. */
export interface Standing {
  rule: string
  component: string
  severity: string
  labels: Readonly<Record<string, string>>
  source: 'rule' | 'check' | 'event' | 'channel'
  status: AlertState['status']
  dependsOn: readonly string[]
}

export interface Verdict {
  /** Null: it is told. */
  withheld: 'inhibited' | 'silenced' | 'maintenance' | null
  /** The component that explains it, of an inhibited one. */
  root: string | null
  /** A silence or maintenance holds for it, whatever explains it. */
  quiet: boolean
}

export interface Surroundings {
  /** What each component stands on. */
  tree: ReadonlyMap<string, readonly string[]>
  silences: readonly { matchers: readonly Matcher[] }[]
  maintenance: readonly Maintenance[]
}

/**
 * Why each alert opens no incident of its own, if it does not. A component whose check fails, or is about to, explains everything that
 * stands on it: what waits for its verdict is held back too, so that the cause is told and not its consequences.
 */
export function withhold(alerts: readonly Standing[], surroundings: Surroundings): Verdict[] {
  const down = new Set(alerts.flatMap(({ source, status, component }) => (source === 'check' && status !== 'ok' ? [component] : [])))
  const ancestors = (component: string) => surroundings.tree.get(component) ?? []
  // In a circle of dependencies the first by name stands for all of it, so that somebody is told.
  const explains = (cause: string, name: string) => cause !== name && (!ancestors(cause).includes(name) || cause < name)
  return alerts.map((alert) => {
    const above = new Set([...alert.dependsOn.flatMap((name) => [name, ...ancestors(name)]), ...ancestors(alert.component)])
    above.delete(alert.component)
    const causes = [...above].filter((name) => down.has(name) && explains(name, alert.component))
    // The farthest of them: what nothing else explains.
    const root = causes.find((name) => !ancestors(name).some((other) => down.has(other) && explains(other, name)))
    const silenced = surroundings.silences.some(({ matchers }) => matchesAll(matchers, alert))
    const here = [alert.component, ...above]
    const worked = surroundings.maintenance.some(({ components }) => components === 'all' || components.some((name) => here.includes(name)))
    const quiet = silenced || worked
    if (root !== undefined) return { withheld: 'inhibited', root, quiet }
    return { withheld: silenced ? 'silenced' : worked ? 'maintenance' : null, root: null, quiet }
  })
}
