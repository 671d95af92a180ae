import type { Policy, WebhookHandler } from '../config/index.ts'
import type { Env } from '../platform/env.ts'
import type { FetchCurrent } from './current-object.ts'
import { suppressionHandlers } from './sendgrid/suppress.ts'
import { type MirrorPolicy, mirrorHandlers } from './stripe/mirror.ts'
import { consentHandlers } from './twilio/consent.ts'

type Handlers = ReadonlyMap<string, WebhookHandler>

/** What becomes of one source's events. */
export interface SourcePolicy {
  handlers: Handlers
  /** What becomes of an event that comes after a later one of its object was applied and cannot be brought up to date. */
  late: 'apply' | 'skip'
  /**
   * Every event holds its whole object: a later one's says all that an earlier one's did, and may stand for it. Others
   * (a message, a push) are what they are, whenever they come.
   */
  snapshots: boolean
  /** Looks an object up as it is now, where the provider can be asked. */
  current?: () => Promise<FetchCurrent>
  /** Fields of objects that are looked up which nobody needs to see, as those of the events. */
  minimise?: readonly string[] | undefined
}

interface Receiving {
  on?: unknown
  late?: 'apply' | 'skip' | undefined
  mirror?: MirrorPolicy | undefined
}

/** What the policy, and Caretaker itself, make of events, for every source: one without any handler has an empty map. */
export function sourcePolicies(ctx: { config: Policy; env: Env }): Map<string, SourcePolicy> {
  const { stripe, twilio, sendgrid, sources } = ctx.config.webhooks ?? {}
  const current = async () => (await import('./stripe/current-object.ts')).currentStripeObject
  const ofStripe = (policy: Receiving | undefined): SourcePolicy => ({
    handlers: joined(mirrorHandlers(policy?.mirror), own(policy)),
    late: stripe?.late ?? 'apply',
    snapshots: true,
    current,
    minimise: stripe?.minimise,
  })
  return new Map<string, SourcePolicy>([
    ['stripe', ofStripe(stripe)],
    ['stripe-connect', ofStripe(stripe?.connect)],
    ['twilio', plain(twilio, consentHandlers(ctx))],
    ['sendgrid', plain(sendgrid, suppressionHandlers(ctx))],
    ...Object.entries(sources ?? {}).map(([name, policy]) => [name, plain(policy)] as const),
  ])
}

function plain(policy: Receiving | undefined, builtIn: Handlers = new Map()): SourcePolicy {
  return { handlers: joined(builtIn, own(policy)), late: policy?.late ?? 'apply', snapshots: false }
}

function own(policy: Receiving | undefined): Handlers {
  return new Map(Object.entries((policy?.on ?? {}) as Record<string, WebhookHandler>))
}

/** Both maps' handlers; where both have one, the first's and then the second's, in the same transaction. */
function joined(first: Handlers, second: Handlers): Handlers {
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
