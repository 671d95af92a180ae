import { describe, expect, it, vi } from 'vitest'
import { defineConfig, type StripeHandlers, type WebhookHandler } from '../../lib/config/index.ts'
import { fixedClock } from '../../lib/platform/clock.ts'
import type { Context } from '../../lib/platform/context.ts'
import type { Transaction } from '../../lib/platform/db.ts'
import { readEnv } from '../../lib/platform/env.ts'
import { fieldCipher } from '../../lib/platform/field-cipher.ts'
import type { JobRun } from '../../lib/platform/job.ts'
import { listInbox, processInbox, receiveWebhook, replayEvents, showInbox } from '../../lib/webhooks/index.ts'
import { planInbox, processInboxJob } from '../../lib/webhooks/process.ts'
import { maxAttempts, retryDelayMs } from '../../lib/webhooks/process-inbox.ts'
import { signStripe, stripeEvent } from '../doubles/stripe.ts'
import { logLines, testContext } from '../support/context.ts'
import { createTestDatabase, useTestDatabase } from '../support/database.ts'

const secret = 'whsec_test_of_the_endpoint'
const encryptionKey = 'ab'.repeat(32)
const start = '2026-11-21T12:00:00Z'

describe('the inbox', () => {
  const test = useTestDatabase()
  let sequence = 0

  /** A context of its own event types, so that tests sharing the database do not take each other's events. */
  function context(on: Record<string, WebhookHandler> = {}, overrides: Partial<Context> = {}) {
    const clock = fixedClock(start)
    const ctx = testContext(test.db, {
      clock,
      config: defineConfig({ app: { name: 'Test' }, webhooks: { stripe: { on: on as unknown as StripeHandlers } } }),
      env: readEnv({ ENCRYPTION_KEY: encryptionKey, STRIPE_WEBHOOK_SECRET: secret }),
      deadline: new Date(clock.now().getTime() + 86_400_000),
      ...overrides,
    })
    return Object.assign(ctx, { clock })
  }

  function send(ctx: Context, body: string, signedWith = secret) {
    const headers = new Headers({ 'stripe-signature': signStripe(body, signedWith, ctx.clock.now().getTime() / 1000) })
    return receiveWebhook(ctx, 'stripe', { headers, body: Buffer.from(body) })
  }

  const fresh = () => `t${++sequence}`
  const state = async (eventId: string) =>
    (
      await test.db.query<{ state: string; attempts: number; next_attempt_at: Date; error: unknown }>(
        'select state, attempts, next_attempt_at, error from caretaker.inbox where event_id = $1',
        [eventId],
      )
    )[0]

  it('takes an event once, acknowledges its repeats, and applies it once', async () => {
    const type = fresh()
    const seen: unknown[] = []
    const ctx = context({ [type]: async (event) => void seen.push(event) })
    const body = stripeEvent({ id: 'evt_once', type })
    expect(await send(ctx, body)).toEqual({ accepted: true, duplicate: false, ids: ['evt_once'] })
    expect(await send(ctx, body)).toEqual({ accepted: true, duplicate: true, ids: ['evt_once'] })
    expect(await processInbox(ctx)).toEqual({ applied: 1, ignored: 0, failed: 0, dead: 0 })
    expect(await send(ctx, body)).toMatchObject({ duplicate: true })
    expect(await processInbox(ctx)).toEqual({ applied: 0, ignored: 0, failed: 0, dead: 0 })
    expect(seen).toEqual([JSON.parse(body)])
  })

  it('refuses a wrong signature and a missing secret without touching the database', async () => {
    const ctx = context()
    const untouched = { ...ctx, db: new Proxy(ctx.db, { get: () => expect.fail('the database was asked') }) }
    const body = stripeEvent({ id: 'evt_refused' })
    await expect(send(untouched, body, 'whsec_of_someone_else')).rejects.toMatchObject({ code: 'signature_invalid' })
    const unset = { ...untouched, env: readEnv({ ENCRYPTION_KEY: encryptionKey }) }
    await expect(send(unset, body)).rejects.toMatchObject({ code: 'not_configured' })
    const keyless = { ...untouched, env: readEnv({ STRIPE_WEBHOOK_SECRET: secret }) }
    await expect(send(keyless, body)).rejects.toMatchObject({ code: 'not_configured' })
    await expect(receiveWebhook(untouched, 'strpe', { headers: new Headers(), body: Buffer.from('') })).rejects.toMatchObject({
      code: 'not_found',
      detail: expect.stringContaining('"stripe"'),
    })
  })

  it('asks the database once, and of a burst less than once an event', async () => {
    const ctx = context()
    const query = vi.spyOn(ctx.db, 'query')
    const execute = vi.spyOn(ctx.db, 'execute')
    await send(ctx, stripeEvent({ id: `evt_${fresh()}`, type: fresh() }))
    expect(query).toHaveBeenCalledTimes(1)
    const burst = await Promise.all(Array.from({ length: 60 }, () => send(ctx, stripeEvent({ id: `evt_${fresh()}`, type: fresh() }))))
    expect(burst.every(({ duplicate }) => !duplicate)).toBe(true)
    expect(query.mock.calls.length).toBeLessThan(10)
    expect(execute).not.toHaveBeenCalled()
    query.mockRestore()
    execute.mockRestore()
  })

  it('of a burst refuses the one that the database refuses, and no other', async () => {
    const ctx = context()
    await test.db.execute(`
      create function refuse_poison() returns trigger language plpgsql as $$
        begin if new.type = 'poison' then raise exception 'no' using errcode = '23514'; end if; return new; end $$;
      create trigger refuse_poison before insert on caretaker.inbox for each row execute function refuse_poison()`)
    const outcomes = await Promise.allSettled(
      Array.from({ length: 20 }, (_, n) => send(ctx, stripeEvent({ id: `evt_burst_${n}`, type: n === 7 ? 'poison' : 'fine' }))),
    )
    await test.db.execute('drop trigger refuse_poison on caretaker.inbox; drop function refuse_poison')
    expect(outcomes.map(({ status }, n) => (status === 'rejected' ? n : -1)).filter((n) => n >= 0)).toEqual([7])
    expect(await listInbox(ctx, { type: 'fine' })).toHaveLength(19)
  })

  it('stores one row for the same event sent by thirty clients at once', async () => {
    const type = fresh()
    const ctx = context()
    const body = stripeEvent({ id: 'evt_crowd', type })
    const receipts = await Promise.all(Array.from({ length: 30 }, () => send(ctx, body)))
    expect(receipts.filter((receipt) => !receipt.duplicate)).toHaveLength(1)
    expect(await listInbox(ctx, { type })).toHaveLength(1)
  })

  it('keeps payloads unreadable in the database, and bound to their rows', async () => {
    const type = fresh()
    const ctx = context()
    await send(ctx, stripeEvent({ id: 'evt_secret_a', type, object: { id: 'cus_1', email: 'ada@example.com' } }))
    await send(ctx, stripeEvent({ id: 'evt_secret_b', type, object: { id: 'cus_1', email: 'bob@example.com' } }))
    const rows = await test.db.query<{ payload: Buffer; whole: string }>(
      `select payload, inbox::text as whole from caretaker.inbox where event_id like 'evt_secret_%' order by id`,
    )
    for (const row of rows) {
      expect(row.payload.toString('latin1')).not.toMatch(/example\.com|cus_1/)
      expect(row.whole).not.toContain('cus_1')
    }
    expect((await showInbox(ctx, 'evt_secret_a', { payload: true })).payload).toMatchObject({
      data: { object: { email: 'ada@example.com' } },
    })
    expect(await showInbox(ctx, 'evt_secret_a')).not.toHaveProperty('payload')
    await test.db.execute(`update caretaker.inbox set payload = $1 where event_id = 'evt_secret_a'`, [rows[1]?.payload])
    await expect(showInbox(ctx, 'evt_secret_a', { payload: true })).rejects.toMatchObject({ code: 'internal' })
  })

  it('keeps and sets aside what the policy has no handler for', async () => {
    const ctx = context()
    await send(ctx, stripeEvent({ id: 'evt_unhandled', type: fresh() }))
    expect((await processInbox(ctx)).ignored).toBeGreaterThanOrEqual(1)
    expect(await state('evt_unhandled')).toMatchObject({ state: 'ignored' })
  })

  it('rolls the effects of a failing handler back, and tries again later', async () => {
    const type = fresh()
    await test.db.execute('create table effects (event text)')
    let healthy = false
    const ctx = context({
      [type]: async (event, tx) => {
        await tx.execute('insert into effects values ($1)', [event.id])
        if (!healthy) throw new RangeError('ada@example.com is too long')
      },
    })
    await send(ctx, stripeEvent({ id: 'evt_flaky', type }))
    expect(await processInbox(ctx)).toMatchObject({ applied: 0, failed: 1 })
    expect(await test.db.query('select * from effects')).toEqual([])
    expect(await state('evt_flaky')).toMatchObject({ state: 'received', attempts: 1, error: { code: 'RangeError' } })
    healthy = true
    expect(await processInbox(ctx)).toMatchObject({ applied: 0, failed: 0 })
    ctx.clock.advance(5_000)
    expect(await processInbox(ctx)).toMatchObject({ applied: 1 })
    expect(await test.db.query('select * from effects')).toEqual([{ event: 'evt_flaky' }])
    expect(await state('evt_flaky')).toMatchObject({ state: 'applied', attempts: 2, error: null })
    expect(logLines(ctx).join('')).not.toContain('ada@example.com')
  })

  it('counts an error that a handler swallowed, and one that comes with the commit', async () => {
    const swallowing = fresh()
    const deferred = fresh()
    await test.db.execute(
      'create table parents (id int primary key); create table children (parent int references parents deferrable initially deferred)',
    )
    const ctx = context({
      [swallowing]: async (_event, tx) => void (await tx.query('select 1 / 0').catch(() => undefined)),
      [deferred]: async (_event, tx) => void (await tx.execute('insert into children values (7)')),
    })
    await send(ctx, stripeEvent({ id: 'evt_swallowed', type: swallowing }))
    await send(ctx, stripeEvent({ id: 'evt_deferred', type: deferred }))
    expect(await processInbox(ctx)).toMatchObject({ applied: 0, failed: 2 })
    expect(await state('evt_swallowed')).toMatchObject({ attempts: 1, error: { code: 'sql_25P02' } })
    expect(await state('evt_deferred')).toMatchObject({ attempts: 1, error: { code: 'sql_23503' } })
  })

  it('gives up after twelve attempts, says so in the outbox, and takes it up again when replayed', async () => {
    const type = fresh()
    let healthy = false
    const ctx = context({ [type]: () => (healthy ? Promise.resolve() : Promise.reject(new Error('no'))) })
    await send(ctx, stripeEvent({ id: 'evt_poison', type }))
    for (let attempt = 1; attempt < maxAttempts; attempt++) {
      expect(await processInbox(ctx)).toMatchObject({ failed: 1, dead: 0 })
      ctx.clock.advance(3_600_000)
    }
    expect(await processInbox(ctx)).toMatchObject({ failed: 0, dead: 1 })
    expect(await state('evt_poison')).toMatchObject({ state: 'dead', attempts: maxAttempts })
    expect(await test.db.query(`select payload - 'inboxId' as payload from caretaker.outbox where topic = 'webhooks.dead'`)).toEqual([
      { payload: { source: 'stripe', eventId: 'evt_poison', type, code: 'Error', attempts: maxAttempts } },
    ])
    ctx.clock.advance(86_000_000)
    healthy = true
    expect(await processInbox({ ...ctx, deadline: new Date(ctx.clock.now().getTime() + 60_000) })).toMatchObject({ applied: 0 })
    await replayEvents(ctx, ['evt_poison'])
    expect(await processInbox({ ...ctx, deadline: new Date(ctx.clock.now().getTime() + 60_000) })).toMatchObject({ applied: 1 })
    await expect(replayEvents(ctx, ['evt_poison'])).rejects.toMatchObject({ code: 'conflict' })
    await expect(replayEvents(ctx, ['evt_none'])).rejects.toMatchObject({ code: 'not_found' })
    expect(await test.db.query(`select action from caretaker.audit where detail ->> 'eventId' = 'evt_poison'`)).toEqual([
      { action: 'webhooks.replayed' },
    ])
  })

  it('replays all or none', async () => {
    const ctx = context()
    await send(ctx, stripeEvent({ id: 'evt_set_aside', type: fresh() }))
    await processInbox(ctx)
    await expect(replayEvents(ctx, ['evt_set_aside', 'evt_none'])).rejects.toMatchObject({ code: 'not_found' })
    expect(await state('evt_set_aside')).toMatchObject({ state: 'ignored' })
  })

  it("applies the events of one object in the provider's order, whatever the order they came in", async () => {
    const type = fresh()
    const seen: string[] = []
    const ctx = context({ [type]: async (event) => void seen.push(event.id) })
    for (const [id, created] of [
      ['evt_o3', 30],
      ['evt_o1', 10],
      ['evt_o2b', 20],
      ['evt_o2a', 20],
    ] as const)
      await send(ctx, stripeEvent({ id, type, created: 1_795_000_000 + created, object: { id: 'sub_ordered' } }))
    await processInbox(ctx)
    expect(seen).toEqual(['evt_o1', 'evt_o2b', 'evt_o2a', 'evt_o3'])
  })

  it('lets nothing of an object pass an earlier event that has failed, and others go on', async () => {
    const type = fresh()
    const seen: string[] = []
    let healthy = false
    const ctx = context({
      [type]: async (event) => {
        if (event.id === 'evt_f1' && !healthy) throw new Error('no')
        seen.push(event.id)
      },
    })
    await send(ctx, stripeEvent({ id: 'evt_f1', type, created: 1_795_000_001, object: { id: 'sub_a' } }))
    await send(ctx, stripeEvent({ id: 'evt_f2', type, created: 1_795_000_002, object: { id: 'sub_a' } }))
    await send(ctx, stripeEvent({ id: 'evt_other', type, created: 1_795_000_003, object: { id: 'sub_b' } }))
    await processInbox(ctx)
    expect(seen).toEqual(['evt_other'])
    healthy = true
    ctx.clock.advance(5_000)
    await processInbox(ctx)
    expect(seen).toEqual(['evt_other', 'evt_f1', 'evt_f2'])
  })

  it('does not begin an earlier event that arrives while a later one of its object is being applied', async () => {
    const type = fresh()
    const steps: string[] = []
    const later = Promise.withResolvers<void>()
    const begun = Promise.withResolvers<void>()
    const ctx = context({
      [type]: async (event) => {
        steps.push(`${event.id} begins`)
        begun.resolve()
        if (event.id === 'evt_later') await later.promise
        steps.push(`${event.id} ends`)
      },
    })
    await send(ctx, stripeEvent({ id: 'evt_later', type, created: 1_795_000_009, object: { id: 'sub_late' } }))
    const first = processInbox(ctx, { limit: 1 })
    await begun.promise
    await send(ctx, stripeEvent({ id: 'evt_earlier', type, created: 1_795_000_001, object: { id: 'sub_late' } }))
    const second = processInbox(ctx, { limit: 1 })
    await vi.waitFor(
      async () =>
        expect(
          await test.db.query(
            `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and query like '%caretaker.inbox_objects%'`,
          ),
        ).toHaveLength(1),
      { timeout: 20_000 },
    )
    expect(steps).toEqual(['evt_later begins'])
    later.resolve()
    await Promise.all([first, second])
    expect(steps).toEqual(['evt_later begins', 'evt_later ends', 'evt_earlier begins', 'evt_earlier ends'])
  })

  it('applies every event once, and each object in order, with six workers at work', async () => {
    const type = fresh()
    await test.db.execute('create table ordered (n bigint generated always as identity, object text, created bigint)')
    const active = new Set<string>()
    const on: Record<string, WebhookHandler> = {
      [type]: async (event, tx) => {
        const object = String(event.data.object.id)
        expect(active.has(object)).toBe(false)
        active.add(object)
        await tx.execute('insert into ordered (object, created) values ($1, $2)', [object, event.created])
        await tx.query('select pg_sleep(0.002)')
        active.delete(object)
      },
    }
    const ctx = context(on)
    const events = Array.from({ length: 120 }, (_, n) =>
      stripeEvent({ id: `evt_w${n}`, type, created: 1_795_000_000 + ((n * 37) % 120), object: { id: `sub_w${n % 8}` } }),
    )
    await Promise.all(events.map((event) => send(ctx, event)))
    const outcomes = await Promise.all(
      Array.from({ length: 6 }, async () => {
        let applied = 0
        for (let idle = 0; idle < 3; ) {
          const done = await processInbox(ctx)
          applied += done.applied
          idle = done.applied === 0 ? idle + 1 : 0
        }
        return applied
      }),
    )
    expect(outcomes.reduce((sum, one) => sum + one, 0)).toBe(120)
    const wrong = await test.db.query(
      `select from (select created, lag(created) over (partition by object order by n) as before from ordered) o where created < before`,
    )
    expect(wrong).toEqual([])
    expect(await test.db.query('select count(*)::int as count from ordered')).toEqual([{ count: 120 }])
  })

  it('closes the transaction to a handler that has not waited for its queries', async () => {
    const type = fresh()
    let kept: Transaction | undefined
    const ctx = context({
      [type]: async (_event, tx) => {
        kept = tx
      },
    })
    await send(ctx, stripeEvent({ id: 'evt_kept', type }))
    await processInbox(ctx)
    await expect(kept?.execute('select 1')).rejects.toMatchObject({ code: 'internal' })
  })

  it('ends a handler that hangs, and counts the attempt', async () => {
    const type = fresh()
    const ctx = context({ [type]: () => new Promise(() => undefined) })
    await send(ctx, stripeEvent({ id: 'evt_hang', type }))
    const short = { ...ctx, deadline: new Date(ctx.clock.now().getTime() + 1_100) }
    expect(await processInbox(short, { limit: 1 })).toMatchObject({ failed: 1 })
    expect(await state('evt_hang')).toMatchObject({ state: 'received', attempts: 1, error: { code: 'timeout' } })
  })

  it('says the database is gone rather than accepting', async () => {
    const gone = await createTestDatabase()
    const ctx = context({}, { db: gone.db })
    await gone.drop()
    await expect(send(ctx, stripeEvent({ id: 'evt_lost' }))).rejects.toThrow()
  })

  it("does not let one provider's backlog keep another's events waiting", async () => {
    const type = fresh()
    const seen: string[] = []
    const note = async (event: { id: string }) => void seen.push(event.id)
    const base = context({ [type]: note })
    const ctx = {
      ...base,
      config: defineConfig({
        app: { name: 'Test' },
        webhooks: { stripe: { on: { [type]: note } as unknown as StripeHandlers }, sources: { other: { on: { 'a.b': note } } } },
      }),
    }
    await Promise.all(
      Array.from({ length: 60 }, (_, n) => send(ctx, stripeEvent({ id: `evt_backlog_${n}`, type, object: { id: `b_${n}` } }))),
    )
    const cipher = fieldCipher(encryptionKey)
    await test.db.execute(
      `insert into caretaker.inbox (source, event_id, type, occurred_at, next_attempt_at, payload) values ('other', 'evt_other_source', 'a.b', $1::timestamptz, $1::timestamptz, $2)`,
      [ctx.clock.now(), cipher.seal(Buffer.from('{"id":"evt_other_source"}'), ['inbox', 'other', 'evt_other_source'])],
    )
    await processInbox(ctx, { limit: 30 })
    expect(seen).toHaveLength(30)
    expect(seen).toContain('evt_other_source')
    await processInbox(ctx, { limit: 100 })
    expect(seen).toHaveLength(61)
  })

  it('runs as a job until nothing is due, and hands over when it must', async () => {
    const type = fresh()
    const ctx = context({ [type]: () => Promise.resolve() })
    await Promise.all(Array.from({ length: 130 }, (_, n) => send(ctx, stripeEvent({ id: `evt_j${n}`, type }))))
    expect(await planInbox(ctx)).toContainEqual({ action: `apply stripe ${type}`, target: 'caretaker.inbox', count: 130, unit: 'rows' })
    const saved: unknown[] = []
    const run: JobRun = {
      id: 'run',
      job: 'webhooks',
      slot: ctx.clock.now(),
      attempt: 1,
      params: {},
      checkpoint: null,
      save: async (checkpoint) => void saved.push(structuredClone(checkpoint)),
      shouldHandOver: () => saved.length === 0,
      callForHelp: () => Promise.resolve(),
    }
    expect(await processInboxJob(ctx, run)).toEqual({ status: 'hand-over' })
    expect(saved).toEqual([expect.objectContaining({ applied: 100 })])
    expect(await processInboxJob(ctx, { ...run, checkpoint: saved[0] })).toEqual({
      status: 'done',
      result: expect.objectContaining({ applied: 130, failed: 0, dead: 0 }),
    })
  })
})

it('waits between half and all of a delay that doubles up to an hour', () => {
  expect(retryDelayMs(1, () => 0)).toBe(2_500)
  expect(retryDelayMs(1, () => 1)).toBe(5_000)
  expect(retryDelayMs(4, () => 1)).toBe(40_000)
  expect(retryDelayMs(11, () => 1)).toBe(3_600_000)
})
