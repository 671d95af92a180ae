import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { defineConfig } from '../lib/config/index.ts'
import { systemClock } from '../lib/platform/clock.ts'
import type { Context } from '../lib/platform/context.ts'
import { openDatabase } from '../lib/platform/db.ts'
import { readEnv } from '../lib/platform/env.ts'
import { createLog } from '../lib/platform/log.ts'
import { applyMigrations } from '../lib/platform/migrations.ts'
import { receiveWebhook } from '../lib/webhooks/index.ts'
import { startPostgres } from '../local/postgres.ts'
import { signStripe, stripeEvent } from '../tests/doubles/stripe.ts'
import { percentile, printFigure } from './figures.ts'

/*
 * Accepting a webhook (verify, encrypt, insert) against the bare deduplicating INSERT of as many bytes, over the same
 * pool, in alternating rounds of the same run: each is compared with its own neighbours, so that what else the machine
 * does meanwhile falls on both. PostgreSQL syncs every commit to disk, as in production.
 */

const budget = 0.7
const rounds = 15
const perRound = 500
const connections = 16
const secret = 'whsec_of_the_bench_endpoint'

const directory = await mkdtemp(join(tmpdir(), 'caretaker-bench-'))
const server = await startPostgres({ directory })
try {
  const admin = openDatabase({ sessionUrl: server.url() })
  await admin.execute('create database bench')
  await admin.close()
  const db = openDatabase({ sessionUrl: server.url('bench'), maxConnections: connections })
  await applyMigrations(db)
  const ctx = {
    config: defineConfig({ app: { name: 'Bench' } }),
    env: readEnv({ ENCRYPTION_KEY: randomBytes(32).toString('hex'), STRIPE_WEBHOOK_SECRET: secret }),
    db,
    clock: systemClock,
    log: createLog({ level: 'silent' }),
  } as unknown as Context

  let sequence = 0
  const requests = (count: number): Sent[] =>
    Array.from({ length: count }, () => {
      const body = stripeEvent({ id: `evt_${++sequence}`, object: invoice(sequence) })
      return { body: Buffer.from(body), signature: signStripe(body, secret, Math.floor(Date.now() / 1000)) }
    })
  const accept = ({ body, signature }: Sent) =>
    receiveWebhook(ctx, 'stripe', { headers: new Headers({ 'stripe-signature': signature }), body })
  // What a host adds to it: a Request read to its end, a Response made.
  const answer = async ({ body, signature }: Sent) => {
    const init = { method: 'POST', headers: { 'stripe-signature': signature }, body: new Uint8Array(body) }
    const request = new Request('http://bench/api/webhooks/stripe', init)
    const receipt = await receiveWebhook(ctx, 'stripe', { headers: request.headers, body: new Uint8Array(await request.arrayBuffer()) })
    return Response.json({ received: true, duplicate: receipt.duplicate })
  }
  const insert = ({ body }: Sent) =>
    db.execute(
      `insert into caretaker.inbox (source, event_id, type, occurred_at, object_tag, payload) values ('bare', $1, 'invoice.paid', now(), $2, $3)
       on conflict (source, event_id) do nothing`,
      [`evt_${++sequence}`, randomBytes(16), body],
    )

  // Both warm: connections made, code compiled.
  await run(requests(500), accept)
  await run(requests(500), insert)
  await run(requests(500), answer)
  const accepted: Round[] = []
  const bare: Round[] = []
  const answered: Round[] = []
  const ratios: number[] = []
  for (let round = 0; round < rounds; round++) {
    const before = await run(requests(perRound), insert)
    const taken = await run(requests(perRound), accept)
    const after = await run(requests(perRound), insert)
    answered.push(await run(requests(perRound), answer))
    accepted.push(taken)
    bare.push(before, after)
    ratios.push(taken.perSecond / ((before.perSecond + after.perSecond) / 2))
  }
  const ratio = median(ratios)
  const rate = median(accepted.map((round) => round.perSecond))
  const yardstick = median(bare.map((round) => round.perSecond))
  const withHost = median(answered.map((round) => round.perSecond))
  const latencies = accepted.flatMap((round) => round.latenciesMs)
  printFigure({ bench: 'webhooks', figure: 'accepts per second', value: rate, unit: '1/s' })
  printFigure({ bench: 'webhooks', figure: 'bare deduplicating inserts per second', value: yardstick, unit: '1/s' })
  printFigure({
    bench: 'webhooks',
    figure: 'accepts to inserts',
    value: ratio,
    unit: 'ratio',
    budget,
    holds: ratio >= budget,
  })
  printFigure({ bench: 'webhooks', figure: 'requests answered per second, with Request and Response', value: withHost, unit: '1/s' })
  printFigure({ bench: 'webhooks', figure: `accept p50 at ${connections} at once`, value: percentile(latencies, 50), unit: 'ms' })
  printFigure({ bench: 'webhooks', figure: `accept p99 at ${connections} at once`, value: percentile(latencies, 99), unit: 'ms' })
  await db.close()
} finally {
  await server.stop()
  await rm(directory, { recursive: true, force: true })
}

interface Sent {
  body: Buffer
  signature: string
}

interface Round {
  perSecond: number
  latenciesMs: number[]
}

/** As many clients as connections, each sending its next request when the one before is answered. */
async function run<T>(work: readonly T[], send: (one: T) => Promise<unknown>): Promise<Round> {
  const latenciesMs: number[] = []
  let next = 0
  const started = performance.now()
  const client = async () => {
    for (let one = work[next++]; one !== undefined; one = work[next++]) {
      const sent = performance.now()
      await send(one)
      latenciesMs.push(performance.now() - sent)
    }
  }
  await Promise.all(Array.from({ length: connections }, client))
  return { perSecond: (work.length / (performance.now() - started)) * 1_000, latenciesMs }
}

/** About as large, and as regular, as what Stripe sends: 3 KB of JSON with names and random ids. */
function invoice(n: number): Record<string, unknown> {
  const id = () => randomBytes(10).toString('base64url')
  const line = () => ({
    id: `il_${id()}`,
    object: 'line_item',
    amount: 2_450,
    currency: 'usd',
    description: '1 × Plan (at $24.50 / month)',
    invoice: `in_${n % 500}`,
    metadata: {},
    period: { start: 1_795_000_000, end: 1_797_592_000 },
    pricing: { price_details: { price: `price_${id()}`, product: `prod_${id()}` }, type: 'price_details', unit_amount_decimal: '2450' },
    quantity: 1,
    taxes: [],
  })
  return {
    id: `in_${n % 500}`,
    object: 'invoice',
    account_country: 'US',
    amount_due: 4_900,
    amount_paid: 4_900,
    attempted: true,
    billing_reason: 'subscription_cycle',
    collection_method: 'charge_automatically',
    currency: 'usd',
    customer: `cus_${id()}`,
    customer_email: `${id()}@example.com`,
    default_payment_method: null,
    discounts: [],
    hosted_invoice_url: `https://invoice.example/i/${id()}${id()}${id()}`,
    lines: { object: 'list', has_more: false, data: [line(), line()] },
    metadata: {},
    number: id(),
    status: 'paid',
    status_transitions: { finalized_at: 1_795_000_000, marked_uncollectible_at: null, paid_at: 1_795_000_000, voided_at: null },
    subtotal: 4_900,
    total: 4_900,
  }
}

function median(values: readonly number[]): number {
  return percentile(values, 50)
}
