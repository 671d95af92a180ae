import { type Context, remainingMs } from '../../platform/context.ts'
import { requireEnv } from '../../platform/env.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { environmentCipher } from '../../platform/field-cipher.ts'
import { emitEvent } from '../../platform/outbox.ts'
import { sourcePolicies } from '../handlers.ts'
import { insertEvents } from '../queries.ts'
import { newEvent } from '../receive-webhook.ts'
import { isObject, type JsonObject } from '../sources/json.ts'
import { getFromStripe } from './api.ts'
import { readStripeEvent } from './read-event.ts'

export interface Reconciled {
  /** Events that had never arrived, and are in the inbox now. */
  healed: number
  /** Events that Stripe listed. */
  seen: number
  since: Date
  until: Date
  /** Why there was nothing to ask for. */
  skipped?: string
  /** Where to go on when the time was up: the last event of the last page. */
  next?: string
}

export interface ReconcileInput {
  /** Default: since the last time, with an hour's overlap; the first time, since the first event in the inbox. */
  since?: Date
  until?: Date
  /** A connected account; default the platform's own. */
  account?: string
  /** Goes on behind this event. */
  after?: string
  shouldStop?: () => boolean
}

/** https://docs.stripe.com/api/events: "going back up to 30 days". */
const reachMs = 30 * 86_400_000
/** Younger events may still be on their way. */
const inFlightMs = 5 * 60_000
const overlapMs = 3_600_000
const mostTypes = 20

/**
 * Asks Stripe for every event the policy handles, and takes those that never arrived into the inbox, where they are late
 * events like others. Events that were taken before are left as they are, so asking twice does no harm.
 * @throws {CaretakerError} `not_configured` without STRIPE_SECRET_KEY; `invalid_input` for a time Stripe no longer knows; `upstream_failed`
 */
export async function reconcileStripe(ctx: Context, input: ReconcileInput = {}): Promise<Reconciled> {
  const key = requireEnv(ctx.env, 'STRIPE_SECRET_KEY', 'Asking Stripe for events that never arrived')
  if (input.account !== undefined && !/^acct_\w{1,80}$/.test(input.account))
    throw new CaretakerError('invalid_input', `The account is "${input.account.slice(0, 40)}"; expected acct_….`)
  const cipher = environmentCipher(ctx.env, 'The webhook inbox')
  const source = input.account === undefined ? 'stripe' : 'stripe-connect'
  // The cursor of a connected account is its own.
  const cursor = input.account === undefined ? source : `${source}:${input.account}`
  const types = [...(sourcePolicies(ctx).get(source)?.handlers.keys() ?? [])].filter((type) => !/^v\d/.test(type))
  const now = ctx.clock.now()
  const until = input.until ?? new Date(now.getTime() - inFlightMs)
  const since = input.since ?? (await sinceWhen(ctx, source, cursor, now))
  const result: Reconciled = { healed: 0, seen: 0, since: since ?? until, until }
  if (types.length === 0) return { ...result, skipped: 'The policy handles no event of this source.' }
  if (since === undefined) return { ...result, skipped: 'Nothing has arrived yet: there is no time to ask from.' }
  if (since.getTime() < now.getTime() - reachMs)
    throw new CaretakerError('invalid_input', `Stripe lists the events of 30 days; asked was ${since.toISOString()}.`)

  let after = input.after
  for (;;) {
    if (ctx.signal.aborted || remainingMs(ctx) < 1_000 || input.shouldStop?.() === true)
      return { ...result, ...(after === undefined ? {} : { next: after }) }
    const page = await eventsPage(ctx, { key, types, since, until, after, account: input.account })
    // Listed on its own behalf, an event does not say whose it is, as one that is sent does.
    const owner = input.account === undefined ? {} : { account: input.account }
    const events = page.events.filter((event) => types.includes(String(event.type))).map((event) => readStripeEvent({ ...event, ...owner }))
    const there = await ctx.db.query<{ id: string }>(
      'select event_id as id from caretaker.inbox where source = $1::text and event_id = any($2::text[])',
      [source, events.map((event) => event.eventId)],
    )
    const known = new Set(there.map((row) => row.id))
    const fields = ctx.config.webhooks?.stripe?.minimise
    const missing = events.filter((event) => event.source === source && !known.has(event.eventId))
    const rows = missing.map((event) => ({ ...newEvent(cipher, event, ctx.clock.now(), fields), fetched: true }))
    result.healed += (await insertEvents(ctx.db, rows)).filter((isNew) => isNew).length
    result.seen += events.length
    after = page.last
    if (!page.more || after === undefined) break
  }
  await ctx.db.transaction(async (tx) => {
    await tx.execute(
      `insert into caretaker.webhook_sources as s (source, reconciled_until) values ($1::text, $2::timestamptz)
       on conflict (source) do update set reconciled_until = greatest(s.reconciled_until, excluded.reconciled_until)`,
      [cursor, until],
    )
    if (result.healed > 0) await emitEvent(tx, 'webhooks.healed', { source, events: result.healed, since: since.toISOString() })
  })
  return result
}

async function sinceWhen(ctx: Context, source: string, cursor: string, now: Date): Promise<Date | undefined> {
  const [row] = await ctx.db.query<{ until: Date | null; first: Date | null }>(
    `select (select reconciled_until from caretaker.webhook_sources where source = $2::text) as until,
       (select min(received_at) from caretaker.inbox where source = $1::text) as first`,
    [source, cursor],
  )
  const from = row?.until ?? row?.first
  if (from === null || from === undefined) return undefined
  const earliest = now.getTime() - reachMs + 60_000
  return new Date(Math.max(earliest, from.getTime() - overlapMs))
}

interface Page {
  events: JsonObject[]
  more: boolean
  last: string | undefined
}

interface PageRequest {
  key: string
  types: readonly string[]
  since: Date
  until: Date
  after: string | undefined
  account: string | undefined
}

/** The newest first. More types than Stripe filters by are sorted out here. */
async function eventsPage(ctx: Context, request: PageRequest): Promise<Page> {
  const { key, types, since, until, after, account } = request
  const { body } = await getFromStripe(ctx, {
    key,
    account,
    path: '/v1/events',
    query: [
      ['limit', '100'],
      ['created[gte]', String(Math.floor(since.getTime() / 1000))],
      ['created[lt]', String(Math.ceil(until.getTime() / 1000))],
      ...(types.length > mostTypes ? [] : types.map((type) => ['types[]', type] as const)),
      ...(after === undefined ? [] : [['starting_after', after] as const]),
    ],
  })
  if (body === null || !Array.isArray(body.data)) throw new CaretakerError('upstream_failed', 'Stripe answered without a list of events.')
  const events = body.data.filter(isObject)
  const last = events.at(-1)?.id
  return { events, more: body.has_more === true, last: typeof last === 'string' ? last : undefined }
}
