import { byteSize, durationMs, type Policy, type RetentionRule } from '../../config/index.ts'

/** What keeps a rule from hurting, and from taking more than was meant, in one unit each. */
export interface Limits {
  /** How long a batch may hold its locks; its size follows. */
  batchMs: number
  /** The share of its time that the database may work on batches. */
  load: number
  /** Waited for while a replica is further behind, bytes and milliseconds. */
  replicaLagBytes: number
  replicaDelayMs: number
  /** Waited for while another session's snapshot is older. */
  snapshotAgeMs: number
  /** How long a run waits in all before it leaves the rest to the next one. */
  patienceMs: number
  leastAgeMs: number
  maxShare: number
  maxUnindexed: number
}

export interface Budget {
  /** Infinite where the policy says nothing. */
  rows: number
  timeMs: number
  /** As the policy has it, for sentences. */
  timeText: string | undefined
}

/** Rows below which a share of a table says nothing: whoever has a thousand rows may well mean all of them. */
export const smallTake = 1_000

const defaults = {
  batchMs: 20,
  load: 0.8,
  replicaLag: '64 MB',
  replicaDelay: '30 seconds',
  snapshotAge: '30 minutes',
  patience: '5 minutes',
  leastAge: '1 day',
  maxShare: 0.5,
  maxUnindexed: 100_000,
}

/** The rule's own limits, those of every rule, and the defaults, in this order. */
export function limitsOf(policy: Pick<Policy, 'maintenance'>, rule: Pick<RetentionRule, 'limits'>): Limits {
  const limits = { ...defaults, ...policy.maintenance?.limits, ...rule.limits }
  return {
    batchMs: limits.batchMs ?? defaults.batchMs,
    load: limits.load ?? defaults.load,
    replicaLagBytes: byteSize(limits.replicaLag ?? defaults.replicaLag),
    replicaDelayMs: durationMs(limits.replicaDelay ?? defaults.replicaDelay),
    snapshotAgeMs: durationMs(limits.snapshotAge ?? defaults.snapshotAge),
    patienceMs: durationMs(limits.patience ?? defaults.patience),
    leastAgeMs: durationMs(limits.leastAge ?? defaults.leastAge),
    maxShare: limits.maxShare ?? defaults.maxShare,
    maxUnindexed: limits.maxUnindexed ?? defaults.maxUnindexed,
  }
}

/** How long before the age that `limits.leastAge` names, for sentences. */
export function leastAgeText(policy: Pick<Policy, 'maintenance'>, rule: Pick<RetentionRule, 'limits'>): string {
  return rule.limits?.leastAge ?? policy.maintenance?.limits?.leastAge ?? defaults.leastAge
}

/** The rule's own budget, or that of every rule, member by member. */
export function budgetOf(policy: Pick<Policy, 'maintenance'>, rule: Pick<RetentionRule, 'budget'>): Budget {
  const { rows, time } = { ...policy.maintenance?.budget, ...rule.budget }
  return {
    rows: rows ?? Number.POSITIVE_INFINITY,
    timeMs: time === undefined ? Number.POSITIVE_INFINITY : durationMs(time),
    timeText: time,
  }
}
