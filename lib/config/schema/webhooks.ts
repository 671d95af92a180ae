import type Stripe from 'stripe'
import * as z from 'zod/mini'
import type { Transaction } from '../../platform/db.ts'
import { durationMs, isDuration } from '../duration.ts'
import { duration, url } from './primitives.ts'

/** What a handler is told beside the event. */
export interface WebhookDelivery {
  readonly source: string
  /** 1 the first time; more after a failure. */
  readonly attempt: number
  readonly receivedAt: Date
  /** A later event of the same object was applied before this one. */
  readonly late: boolean
  /** The object is not as it was sent: as a later event told it or, where no order can be told, as the provider has it now. */
  readonly current: boolean
  /** The object a thin event is about, where it could be fetched. */
  readonly object?: Readonly<Record<string, unknown>>
  /** Tells the subscribers of the policy, if the transaction commits. The type is words joined by dots: "order.paid". */
  emit(type: string, data: Readonly<Record<string, unknown>>): Promise<void>
}

type Handler<Event> = (event: Event, tx: Transaction, delivery: WebhookDelivery) => Promise<void>

/** An event of any source: what was signed, parsed. */
export type WebhookEvent = Record<string, unknown> & {
  id: string
  type: string
  created: number
  data: { object: Record<string, unknown> }
}
/** Runs in the transaction that marks the event as applied: its effects happen exactly once. */
export type WebhookHandler = Handler<WebhookEvent>

/** As Stripe's types have it; what an endpoint's other API version adds is there too, unknown. */
type StripeEvents = { [E in Stripe.Event as E['type']]: Omit<E, 'data'> & { data: E['data'] & { object: Record<string, unknown> } } }

/** A thin event: it names its object and does not hold it (https://docs.stripe.com/event-destinations). */
export interface StripeThinEvent {
  id: string
  object: 'v2.core.event'
  type: string
  created: string
  livemode: boolean
  context?: string
  related_object?: { id: string; type: string; url: string } | null
}

/** Handlers by Stripe's type of event, each with Stripe's own type of it. */
export type StripeHandlers = { [T in keyof StripeEvents]?: Handler<StripeEvents[T]> } & {
  [thin: `v${number}.${string}`]: Handler<StripeThinEvent>
}

/** A handler written away from the policy, with the type of its event: `on: { ...onStripe('invoice.paid', async (event, tx) => …) }`. */
export function onStripe<T extends keyof StripeEvents>(type: T, handler: Handler<StripeEvents[T]>): Pick<StripeHandlers, T> {
  return { [type]: handler } as Pick<StripeHandlers, T>
}

const handlers = z.record(
  z.string(),
  z.custom<WebhookHandler>((value) => typeof value === 'function', 'expected a function (event, tx) => Promise<void>'),
)
const stripeHandlers = handlers as unknown as z.ZodMiniType<StripeHandlers, StripeHandlers>

/** `customer_email`, `data.object.customer_email`, `data.object.lines.*.description`; `**.email` at any depth. */
const field = z
  .string()
  .check(
    z.regex(
      /^(\*\*|\*|[^.*\s]+)(\.(\*|[^.*\s]+))*$/,
      'expected a path such as "data.object.customer_email", with * for any one name and ** in front for any depth',
    ),
  )

const receiving = {
  /** Fields that are stored as null: what nobody needs is not kept. */
  minimise: z.optional(z.array(field)),
  /** Events of an object that come after a later one of it was applied: apply them, told so (the default), or set them aside. */
  late: z.optional(z.enum(['apply', 'skip'])),
}

/** Stripe lists the events of 30 days: one whose entry is gone by then would be taken for new. */
const entriesKept = duration.check(
  z.refine((value) => !isDuration(value) || durationMs(value) >= 31 * 86_400_000, 'expected at least "31 days"'),
)

const tolerance = z.optional(z.int().check(z.gte(1), z.lte(3600)))

const mirror = z.union([
  z.literal(true),
  z.array(z.enum(['customers', 'subscriptions', 'invoices', 'payments'])).check(z.minLength(1, 'expected at least one table')),
])

const source = z.strictObject({
  ...receiving,
  /** `standard`: Standard Webhooks, as of Clerk, Memberstack and Svix; `supabase`: an auth hook that sends. Default `standard`. */
  kind: z.optional(z.enum(['standard', 'supabase', 'github'])),
  on: z.optional(handlers),
  toleranceSeconds: tolerance,
})

export type WebhookSourcePolicy = z.output<typeof source>

/** The last parts of the paths that are taken, and what the inbox calls the built-in sources. */
const takenNames = ['stripe', 'stripe-connect', 'sms', 'twilio', 'email', 'sendgrid', 'logs']
const sourceName = z.string().check(
  z.regex(/^[a-z0-9][a-z0-9-]{0,62}$/, 'expected lower-case letters, digits and hyphens'),
  z.refine((value) => !takenNames.includes(value), `expected a name other than the built-in ${takenNames.join(', ')}`),
)

const replies = z.strictObject({ stop: z.optional(z.string()), start: z.optional(z.string()), help: z.optional(z.string()) })
const keywords = z.optional(z.array(z.string().check(z.minLength(1, 'expected a word'))))
const language = z.strictObject({ stop: keywords, start: keywords, help: keywords, replies: z.optional(replies) })

export type TwilioReplies = z.output<typeof replies>
export type TwilioLanguage = z.output<typeof language>

/** What a subscriber is told. */
export interface OutgoingEvent {
  type: string
  at: Date
  data: Record<string, unknown>
}

/** Addresses that are secrets themselves, so that they stand in the environment. */
const addressVariable = z.enum(['MAKE_COM_WEBHOOK_URL', 'N8N_WEBHOOK_URL', 'SLACK_WEBHOOK_URL', 'TASKMASTER_WEBHOOK_URL'])

const subscriber = z.strictObject({
  url: z.union([url, z.strictObject({ env: addressVariable })]),
  /** Types of events: "order.paid", "gdpr.*", "*". */
  events: z
    .array(
      z
        .string()
        .check(z.regex(/^(\*|[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*(\.\*)?)$/, 'expected a type such as "order.paid", "order.*" or "*"')),
    )
    .check(z.minLength(1, 'expected at least one type')),
  /** `standard`: `{ type, timestamp, data }`; `slack`: `{ text }`. Default `standard`. */
  format: z.optional(z.enum(['standard', 'slack'])),
  /** What is sent, where the subscriber wants something else. */
  body: z.optional(
    z.custom<(event: OutgoingEvent) => unknown>((value) => typeof value === 'function', 'expected a function (event) => body'),
  ),
  /** How long one attempt may take. Default "15 seconds". */
  timeout: z.optional(duration),
  /** An address in a private network on purpose. Default false: such are refused. */
  allowPrivate: z.optional(z.boolean()),
})

export type SubscriberPolicy = z.output<typeof subscriber>

export const webhooks = z.strictObject({
  /** Who is told of what happens, signed as Standard Webhooks, by name. */
  subscribers: z.optional(
    z.record(z.string().check(z.regex(/^[a-z0-9][a-z0-9-]{0,62}$/, 'expected lower-case letters, digits and hyphens')), subscriber),
  ),
  /** How long the inbox keeps what is done: payloads 30 days, entries (by which repeats are known) 90 days, unless said. */
  keep: z.optional(z.strictObject({ payloads: z.optional(duration), entries: z.optional(entriesKept) })),
  /** Tell when nothing comes from a source that usually would have sent this many events since (default 12); false for never. */
  silence: z.optional(z.union([z.literal(false), z.strictObject({ expected: z.optional(z.int().check(z.gte(3), z.lte(100_000))) })])),
  stripe: z.optional(
    z.strictObject({
      ...receiving,
      on: z.optional(stripeHandlers),
      toleranceSeconds: tolerance,
      /** Tables that follow Stripe's: all four, or the ones named. */
      mirror: z.optional(mirror),
      /** Ask Stripe every hour for events that never arrived. Default true, where STRIPE_SECRET_KEY is set. */
      reconcile: z.optional(z.boolean()),
      /** Events of connected accounts, which anybody may cause who has one: only handlers named here see them. */
      connect: z.optional(z.strictObject({ on: z.optional(stripeHandlers), mirror: z.optional(mirror) })),
    }),
  ),
  /** Messages: `message.received`, and what became of those sent: `message.delivered`, `message.failed`… */
  twilio: z.optional(
    z.strictObject({
      ...receiving,
      on: z.optional(handlers),
      /** What is answered to STOP, START and HELP. Nothing unless said: Twilio answers by itself. */
      replies: z.optional(replies),
      /** The words of other languages; English is always known. */
      languages: z.optional(z.array(language)),
    }),
  ),
  /** What became of mail: `email.delivered`, `email.bounce`… */
  sendgrid: z.optional(z.strictObject({ ...receiving, on: z.optional(handlers) })),
  /** Other senders, by the last part of their path: `/api/webhooks/{name}`. Their secrets are in WEBHOOK_SECRETS. */
  sources: z.optional(z.record(sourceName, source)),
})

export type StripeMirrorTable = Exclude<z.output<typeof mirror>, true>[number]
