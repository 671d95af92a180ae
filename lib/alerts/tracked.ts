import { durationMs } from '../config/index.ts'
import { canonicalJson } from '../platform/audit.ts'
import type { Context } from '../platform/context.ts'
import type { AlertRow } from './queries.ts'
import { type AlertState, type Change, loadState, type Sample } from './step.ts'
import { defaultStorm, stormsOf } from './storm.ts'
import type { AlertChange } from './types.ts'
import type { Verdict } from './withhold.ts'

/** An alert on its way through one evaluation. */
export interface Tracked {
  row: AlertRow | null
  rule: string
  labels: Record<string, string>
  source: AlertRow['source']
  component: string
  severity: string
  state: AlertState
  change: Change | undefined
  summary: string
  cause: string | null
  value: number | null
  runbook: string | null
  notify: readonly string[] | null
  dependsOn: readonly string[]
  affected: string[]
  announced: boolean
  withheld: 'inhibited' | 'silenced' | 'maintenance' | null
  root: string | null
  /** The storm that it is part of; null of one that is told for itself. */
  storm: string | null
  /** By which cause, and as how severe: its incident has heard of it; null of one that no other incident speaks for. */
  spokenFor: string | null
  expiresAt: Date | null
  /** Since when it is over, of one that was resolved now. */
  over: Date | null
  looked: boolean
  /** What the look found; null where nobody can say. */
  sample: Sample
  /** Since when nobody can say. */
  silentSince: Date | null
}

/** What incidents are told of an alert. */
export interface TrackedChange {
  alert: Tracked
  change: AlertChange['change']
  /** Of an explained one: nobody is to be told of it. */
  quiet?: boolean
}

export const keyOf = ({ rule, labels }: { rule: string; labels: Readonly<Record<string, string>> }) => `${rule} ${canonicalJson(labels)}`

/** As what the incident of its cause knows of an alert. */
export const spokenFor = ({ root, severity }: { root?: string | null | undefined; severity: string }) => `${root} ${severity}`

/** An alert as the last evaluation left it. */
export function carriedOn(row: AlertRow): Tracked {
  const { rule, labels, source, component, severity, summary, cause, value, runbook, notify, affected, announced, expiresAt } = row
  return {
    ...{ row, rule, labels, source, component, severity, summary, cause, value, runbook, notify, affected, announced, expiresAt },
    state: loadState(row.step),
    change: undefined,
    dependsOn: [],
    withheld: null,
    root: null,
    storm: row.step.storm ?? null,
    spokenFor: row.step.spokenFor ?? null,
    over: null,
    looked: false,
    sample: null,
    silentSince: row.step.silentSince === undefined || row.step.silentSince === null ? null : new Date(row.step.silentSince),
  }
}

/** Which of them are a storm, one incident together. What is explained has a cause already. */
export function takeStorms(ctx: Context, standing: readonly Tracked[], verdicts: readonly Verdict[], remote: ReadonlySet<string>): void {
  const policy = ctx.config.alerts?.storm
  const storms =
    policy === false
      ? []
      : stormsOf(
          standing.map(({ component, source, state, announced, storm, notify }, index) => ({
            ...{ component, source, status: state.status, since: state.since, failing: state.wellSince === null, announced },
            told: verdicts[index]?.withheld === null && notify?.length !== 0,
            remote: remote.has(component),
            storm: verdicts[index]?.withheld === 'inhibited' ? null : storm,
          })),
          { atLeast: policy?.atLeast ?? defaultStorm.atLeast, withinMs: durationMs(policy?.within ?? defaultStorm.within) },
        )
  for (const [index, alert] of standing.entries()) alert.storm = storms[index] ?? null
}
