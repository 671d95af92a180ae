import { canonicalName } from '../../config/index.ts'
import type { Context } from '../../platform/context.ts'
import { databaseTime } from '../../platform/database-clock.ts'
import { environmentOf } from '../../platform/environment.ts'
import type { CauseCode } from '../causes.ts'
import { policyChecks } from '../check.ts'
import { dependencyTree } from '../dependencies.ts'
import { readStates } from './record.ts'
import type { HistoryStatus } from './status.ts'

/** How one check of the policy stands, by what was stored last. */
export interface HealthObservation {
  /** Canonical name, of the check and of the component it stands for. */
  check: string
  component: string
  critical: boolean
  status: HistoryStatus
  cause: CauseCode | undefined
  /** Since when it has this status; where nobody ever looked, now. */
  since: Date
  /** When it was looked at last; where nobody ever did, now. */
  at: Date
  durationMs: number | null
  /** What its failure may come from, nearest first. */
  dependsOn: readonly string[]
}

/** How every check of the policy stands. Looks at nothing; what nobody looked at for too long is `unknown`. */
export async function healthNow(ctx: Context): Promise<HealthObservation[]> {
  const [states, now] = [await readStates(ctx.db, environmentOf(ctx)), await databaseTime(ctx)]
  const byName = new Map(states.map((state) => [state.check, state]))
  const tree = dependencyTree(ctx.config)
  return policyChecks(ctx.config, ctx.env).map((check): HealthObservation => {
    const name = canonicalName(check.name)
    const state = byName.get(name)
    const known = { check: name, component: name, critical: check.critical, dependsOn: tree.get(name) ?? [] }
    if (state === undefined) return { ...known, status: 'unknown', cause: undefined, since: now, at: now, durationMs: null }
    const looked = { at: state.lookedAt, durationMs: state.durationMs }
    if (state.validUntil < now) return { ...known, ...looked, status: 'unknown', cause: undefined, since: state.validUntil }
    return { ...known, ...looked, status: state.status, cause: (state.cause ?? undefined) as CauseCode | undefined, since: state.since }
  })
}
