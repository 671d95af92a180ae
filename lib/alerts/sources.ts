import type { Policy } from '../config/index.ts'
import type { Context } from '../platform/context.ts'

/*
 * Where conditions come from, as this domain needs it. Health, metrics and the ledger are other domains: the catalogue hands
 * them in.
 */

/** How a check stands: the newest of what was stored. */
export interface CheckObservation {
  check: string
  component: string
  critical: boolean
  status: 'up' | 'down' | 'maintenance' | 'unknown'
  cause: string | null
  since: Date
  at: Date
}

/** A figure that a rule asks for. */
export interface FigureQuery {
  metric: string
  stat?: 'last' | 'average' | 'max' | 'min' | 'sum' | 'per_second' | 'p50' | 'p90' | 'p95' | 'p99'
  where?: Readonly<Record<string, string>>
  per?: { metric: string; where?: Readonly<Record<string, string>> }
  by?: readonly string[]
  overSeconds: number
}

export interface Figure {
  labels: Record<string, string>
  /** Null where there is none, which is not zero. */
  value: number | null
  samples: number
}

export interface Maintenance {
  title: string
  components: readonly string[] | 'all'
}

/** A window with its time, of a time that is past. */
export interface PastMaintenance extends Maintenance {
  startsAt: Date
  endsAt: Date
}

export interface AlertSources {
  health(ctx: Context): Promise<readonly CheckObservation[]>
  measure(ctx: Context, query: FigureQuery, at: Date): Promise<readonly Figure[]>
  maintenanceAt(ctx: Context, at: Date): Promise<readonly Maintenance[]>
  /** Those that were open at some time in it: announced by hand as they were held, and those of the policy as it is now. */
  maintenanceBetween(ctx: Context, span: { from: Date; to: Date }): Promise<readonly PastMaintenance[]>
  /** What each component stands on, nearest and farthest. */
  dependencyTree(policy: Policy): Promise<ReadonlyMap<string, readonly string[]>>
  /** Components whose checks reach over the internet, and not through the database. */
  remoteChecks(policy: Policy): Promise<ReadonlySet<string>>
  /** When a run of each of these jobs last ended well. */
  jobsDone(ctx: Context, jobs: readonly string[]): Promise<ReadonlyMap<string, Date>>
  /** What a cause of a check means, in words. */
  words(cause: string): Promise<string>
  /** What a figure was at each step of a time that is past, oldest first. */
  measureSeries(
    ctx: Context,
    query: Omit<FigureQuery, 'by'>,
    span: { from: Date; to: Date; stepSeconds: number },
  ): Promise<readonly { at: Date; value: number | null; samples: number; resolution: 'minute' | 'hour' }[]>
  /** How checks went in a time that is past, oldest first; the first of each is how it stood before. */
  healthChanges(
    ctx: Context,
    span: { from: Date; to: Date },
  ): Promise<readonly { check: string; at: Date; status: CheckObservation['status']; cause: string | null }[]>
}
