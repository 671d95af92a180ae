import { beforeEach, describe, expect, it } from 'vitest'
import { defineConfig } from '../../../lib/config/index.ts'
import { eraseSubject, readConsents, recordConsent } from '../../../lib/gdpr/index.ts'
import { fixedClock } from '../../../lib/platform/clock.ts'
import type { Context } from '../../../lib/platform/context.ts'
import { readEnv } from '../../../lib/platform/env.ts'
import { testContext } from '../../support/context.ts'
import { useTestDatabase } from '../../support/database.ts'

const test = useTestDatabase()
const clock = fixedClock('2026-11-21T10:00:00Z')
const texts = (version: string) => ({
  marketing: { version, text: `News now and then (${version}).` },
  research: { version: '1', text: 'Anonymous statistics.' },
})
const env = readEnv({ ENCRYPTION_KEY: 'ab'.repeat(32) })
const context = (version = '1'): Context =>
  testContext(test.db, {
    clock,
    env,
    actor: { type: 'operator', id: 'someone', role: 'support' },
    config: defineConfig({ app: { name: 'App' }, gdpr: { subject: { table: 'app.people' }, consent: texts(version) } }),
  })

beforeEach(async () => {
  await test.db.execute(`
    truncate caretaker.consents, caretaker.outbox, caretaker.gdpr_requests cascade;
    drop schema if exists app cascade;
    create schema app;
    create table app.people (id int primary key, email text);
    insert into app.people values (1, 'ada@example.org'), (2, 'bob@example.org')`)
})

const say = (ctx: Context, given: boolean, version = '1') =>
  recordConsent(ctx, { subject: '1', purpose: 'marketing', given, version, source: 'settings page' })

describe('a consent', () => {
  it('is given, taken back and given again: each is kept, the last one counts', async () => {
    await say(context(), true)
    clock.advance(1_000)
    await say(context(), false)
    clock.advance(1_000)
    await say(context(), true)
    expect(await readConsents(context(), { subject: '1' })).toEqual([
      { purpose: 'marketing', given: true, version: '1', at: clock.now(), outdated: false },
      { purpose: 'research', given: null, version: null, at: null, outdated: false },
    ])
    expect(await test.db.query('select given from caretaker.consents order by id')).toEqual([
      { given: true },
      { given: false },
      { given: true },
    ])
    expect(await test.db.query('select topic from caretaker.outbox order by id')).toEqual([
      { topic: 'consent.given' },
      { topic: 'consent.withdrawn' },
      { topic: 'consent.given' },
    ])
  })

  it('said twice is recorded once, also at once', async () => {
    await Promise.all(Array.from({ length: 4 }, () => say(context(), true)))
    expect(await test.db.query('select from caretaker.consents')).toHaveLength(1)
  })

  it('to an older text is outdated, and to a text that is not in force is refused; taking back never is', async () => {
    await say(context('1'), true, '1')
    expect((await readConsents(context('2'), { subject: '1' }))[0]).toMatchObject({ given: true, version: '1', outdated: true })
    await expect(say(context('2'), true, '1')).rejects.toMatchObject({ code: 'invalid_input' })
    expect(await say(context('2'), false, '1')).toMatchObject({ given: false })
    expect(await say(context('2'), true, '2')).toMatchObject({ given: true, version: '2' })
  })

  it('to a purpose nobody named is refused, with the nearest', async () => {
    await expect(
      recordConsent(context(), { subject: '1', purpose: 'marketting', given: true, version: '1', source: 'x' }),
    ).rejects.toMatchObject({
      code: 'invalid_input',
      detail: expect.stringContaining('did you mean "marketing"'),
    })
    await expect(
      recordConsent(context(), { subject: '1', purpose: 'constructor', given: true, version: '1', source: 'x' }),
    ).rejects.toMatchObject({ code: 'invalid_input' })
  })

  it('outlives the person, as proof that does not name them', async () => {
    await say(context(), true)
    await eraseSubject(context(), { subject: '1' })
    const rows = await test.db.query<{ text: string }>('select c::text as text from caretaker.consents c')
    expect(rows).toHaveLength(1)
    expect(rows[0]?.text).not.toContain('ada@')
    await expect(readConsents(context(), { subject: '1' })).rejects.toMatchObject({ code: 'subject_not_found' })
  })
})
