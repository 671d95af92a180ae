import type { AlertSources } from './alerts/index.ts'
import { lastDone } from './jobs/index.ts'

/** What alerts look at: health, metrics and the ledger, which are other domains. Loaded when they are asked. */
export const alertSources: AlertSources = {
  health: async (ctx) =>
    (await (await import('./health/index.ts')).healthNow(ctx)).map(({ cause, ...observed }) => ({ ...observed, cause: cause ?? null })),
  measure: async (ctx, query, at) => (await import('./metrics/index.ts')).measure(ctx, query, at),
  measureSeries: async (ctx, query, span) => (await import('./metrics/index.ts')).measureSeries(ctx, query, span),
  healthChanges: async (ctx, span) => (await import('./health/index.ts')).healthChanges(ctx, span),
  maintenanceAt: async (ctx, at) => (await import('./health/index.ts')).maintenanceAt(ctx, at),
  maintenanceBetween: async (ctx, span) => (await import('./health/index.ts')).listMaintenance(ctx, span),
  dependencyTree: async (policy) => (await import('./health/index.ts')).dependencyTree(policy),
  remoteChecks: async (policy) => (await import('./health/index.ts')).remoteChecks(policy),
  jobsDone: (ctx, names) => lastDone(ctx, names),
  words: async (cause) => {
    const { causes } = await import('./health/index.ts')
    return Object.hasOwn(causes, cause) ? causes[cause as keyof typeof causes].words : cause
  },
}
