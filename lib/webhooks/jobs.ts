import { sqlState } from '../platform/errors.ts'
import type { JobPlan, JobVerb, PlanLine } from '../platform/job.ts'
import { sourcePolicies } from './handlers.ts'
import { type DeliveryOutcome, deliverMessages } from './outgoing/deliver.ts'
import { forwardOutbox } from './outgoing/forward-outbox.ts'
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
  const types = sourcePolicies(ctx).get('stripe')?.handlers.size ?? 0
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

/** Makes messages of what happened, and sends what is due. Its checkpoint holds only counts: each delivery is noted by itself. */
export const deliverJob: JobVerb = async (ctx, run) => {
  const total: DeliveryOutcome = { delivered: 0, failed: 0, dead: 0, ...(run.checkpoint as Partial<DeliveryOutcome> | null) }
  for (;;) {
    const { more } = await forwardOutbox(ctx)
    const done = await deliverMessages(ctx)
    for (const key of Object.keys(done) as (keyof DeliveryOutcome)[]) total[key] += done[key]
    if (ctx.signal.aborted || run.shouldHandOver()) {
      await run.save(total)
      return { status: 'hand-over' }
    }
    if (!more && done.delivered + done.failed + done.dead === 0) return { status: 'done', result: { ...total } }
  }
}

/** What waits for each subscriber now, and what died. */
export const planDeliver: JobPlan = async (ctx) => {
  const rows = await ctx.db
    .query<{ subscriber: string; state: string; count: number }>(
      `select subscriber, state, count(*)::int as count from caretaker.deliveries where state in ('waiting', 'dead')
       group by subscriber, state order by subscriber, state`,
    )
    .catch((error: unknown) => {
      // A database that has never seen Caretaker has none.
      if (sqlState(error) === '42P01' || sqlState(error) === '3F000') return []
      throw error
    })
  return rows.map(({ subscriber, state, count }): PlanLine => {
    const line = { target: 'caretaker.deliveries', count, unit: 'rows' as const }
    if (state === 'waiting') return { ...line, action: `deliver to ${subscriber}` }
    return { ...line, action: `nothing: dead letters of ${subscriber}`, warnings: [`${count} deliveries wait for \`webhooks redeliver\`.`] }
  })
}
