import type { JobPlan, JobVerb } from '../platform/job.ts'
import { sourcePolicies } from './handlers.ts'
import { type Reconciled, reconcileStripe } from './stripe/reconcile.ts'
import { watchSources } from './watch-sources.ts'

const noKey = 'STRIPE_SECRET_KEY is not set.'

/** Asks Stripe for what never arrived. Its checkpoint is the page it had come to. */
export const reconcileJob: JobVerb = async (ctx, run) => {
  if (ctx.env.STRIPE_SECRET_KEY === undefined) return { status: 'done', result: { healed: 0, skipped: noKey } }
  const before = run.checkpoint as { since: string; until: string; next: string; healed: number; seen: number } | null
  const done: Reconciled = await reconcileStripe(ctx, {
    shouldStop: () => run.shouldHandOver(),
    ...(before === null ? {} : { since: new Date(before.since), until: new Date(before.until), after: before.next }),
  })
  const healed = done.healed + (before?.healed ?? 0)
  const seen = done.seen + (before?.seen ?? 0)
  if (done.next !== undefined) {
    await run.save({ since: done.since.toISOString(), until: done.until.toISOString(), next: done.next, healed, seen })
    return { status: 'hand-over' }
  }
  const { since, until, skipped } = done
  return { status: 'done', result: { healed, seen, since, until, ...(skipped === undefined ? {} : { skipped }) } }
}

/** What would be asked for. How much never arrived, only Stripe knows. */
export const planReconcile: JobPlan = (ctx) => {
  const types = sourcePolicies(ctx.config).get('stripe')?.handlers.size ?? 0
  const warnings = ctx.env.STRIPE_SECRET_KEY === undefined ? [noKey] : []
  return Promise.resolve([
    { action: `ask Stripe for events of ${types} types that never arrived`, target: 'Stripe', count: null, unit: 'objects', warnings },
  ])
}

/** Counts what arrived, and tells of sources that went silent. */
export const watchSourcesJob: JobVerb = async (ctx) => {
  const watched = await watchSources(ctx)
  return { status: 'done', result: { sources: watched.length, silent: watched.filter((one) => one.silent).map((one) => one.source) } }
}

export const planWatchSources: JobPlan = () => Promise.resolve([])
