import type { Policy, WebhookHandler } from '../config/index.ts'
import type { FetchCurrent } from './current-object.ts'
import { type MirrorPolicy, mirrorHandlers } from './stripe/mirror.ts'

/** What becomes of one source's events. */
export interface SourcePolicy {
  handlers: ReadonlyMap<string, WebhookHandler>
  /** What becomes of an event that comes after a later one of its object was applied and cannot be brought up to date. */
  late: 'apply' | 'skip'
  /** Fields of objects that are looked up which nobody needs to see, as those of the events. */
  minimise?: readonly string[] | undefined
  /** Looks an object up as it is now, where the provider can be asked. */
  current?: () => Promise<FetchCurrent>
}

interface Receiving {
  on?: unknown
  mirror?: MirrorPolicy | undefined
}

/** What the policy makes of events, for every source: one without any handler has an empty map. */
export function sourcePolicies(config: Policy): Map<string, SourcePolicy> {
  const stripe = config.webhooks?.stripe
  const current = async () => (await import('./stripe/current-object.ts')).currentStripeObject
  const late = stripe?.late ?? 'apply'
  return new Map<string, SourcePolicy>([
    ['stripe', { handlers: stripeHandlers(stripe), late, current, minimise: stripe?.minimise }],
    ['stripe-connect', { handlers: stripeHandlers(stripe?.connect), late, current, minimise: stripe?.minimise }],
  ])
}

function stripeHandlers(policy: Receiving | undefined): ReadonlyMap<string, WebhookHandler> {
  return joined(mirrorHandlers(policy?.mirror), own(policy?.on))
}

function own(on: unknown): ReadonlyMap<string, WebhookHandler> {
  return new Map(Object.entries((on ?? {}) as Record<string, WebhookHandler>))
}

/** Both maps' handlers; where both have one, the first's and then the second's, in the same transaction. */
function joined(
  first: ReadonlyMap<string, WebhookHandler>,
  second: ReadonlyMap<string, WebhookHandler>,
): ReadonlyMap<string, WebhookHandler> {
  const all = new Map(first)
  for (const [type, handler] of second) {
    const before = first.get(type)
    all.set(
      type,
      before === undefined
        ? handler
        : async (event, tx, delivery) => {
            await before(event, tx, delivery)
            await handler(event, tx, delivery)
          },
    )
  }
  return all
}
