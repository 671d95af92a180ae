import { spawn } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { generateX25519Identity, identityToRecipient } from 'age-encryption'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { backupDatabase, pruneIncrements, restoreAt, stopIncrements, takeIncrement } from '../../../lib/backup/index.ts'
import { defineConfig } from '../../../lib/config/index.ts'
import { openObjectStore } from '../../../lib/drivers/objects/index.ts'
import { fixedClock } from '../../../lib/platform/clock.ts'
import type { Context } from '../../../lib/platform/context.ts'
import { hasCode } from '../../../lib/platform/errors.ts'
import { testContext, testEncryptionKey } from '../../support/context.ts'
import { createTestDatabase, type TestDatabase } from '../../support/database.ts'
import { useOwnServer } from '../../support/own-server.ts'
import { random, schema, stateOf, timeOf, work } from './workload.ts'

useOwnServer()

// The same work in every run; SEED=$RANDOM is another.
const seed = Number(process.env.SEED ?? 20261121)
const kills = Number(process.env.KILLS ?? 12)
let source: TestDatabase
let folder: string
let identity: string
let recipient: string
let ctx: Context

beforeEach(async () => {
  source = await createTestDatabase({ template: 'template0' })
  folder = await mkdtemp(join(tmpdir(), 'caretaker-increments-'))
  identity = await generateX25519Identity()
  recipient = await identityToRecipient(identity)
  ctx = testContext(source.db, {
    config: defineConfig({ app: { name: 'Shop' }, backup: { recipients: [recipient], increments: {} } }),
    objects: () => openObjectStore(`file://${folder}`, ctx.env),
    deadline: new Date(Date.now() + 3_600_000),
  })
  await source.db.execute(schema)
})
afterEach(async () => {
  await stopIncrements(ctx)
  await source.drop()
  await rm(folder, { recursive: true, force: true })
})

interface Moment {
  at: string
  tables: string[]
  state: string
}

async function momentOf(): Promise<Moment> {
  const rows = await source.db.query<{ name: string }>(
    `select c.oid::regclass::text as name from pg_class c where c.relnamespace = 'shop'::regnamespace and c.relkind = 'r' order by 1`,
  )
  const tables = rows.map((row) => row.name)
  return { at: await timeOf(source.db), tables, state: await stateOf(source.db, tables) }
}

async function expectMoment(moment: Moment): Promise<void> {
  const target = await createTestDatabase({ template: 'template0' })
  try {
    const report = await restoreAt(ctx, { at: moment.at, identity, targetUrl: target.url })
    expect(await stateOf(target.db, moment.tables), `moment ${moment.at}, seed ${seed}`).toBe(moment.state)
    expect(report).toMatchObject({ asOfBase: [] })
    expect(report.problems.filter((problem) => !problem.startsWith('The schema changed between'))).toEqual([])
  } finally {
    await target.drop()
  }
}

/** What a migration does to tables with rows in them. */
const migrations = [
  'alter table shop.orders add column extra int default 5',
  'create table shop.more (id int primary key, of bigint references shop.customers on delete cascade); insert into shop.more select id, id from shop.customers limit 3',
  'alter table shop.customers alter column active drop default, alter column active type text using active::text; alter table shop.customers alter column active type boolean using active::boolean, alter column active set default true',
  'alter table shop.whole replica identity default, add column id serial primary key',
  'create table shop.copied (like shop.places including all); insert into shop.copied select * from shop.places; drop table shop.places; alter table shop.copied rename to places',
  'alter table shop.orders drop column extra',
]

test('50 random moments of a random workload with migrations come back as they were', { timeout: 1_800_000 }, async () => {
  const next = random(seed)
  const moments: Moment[] = []
  await takeIncrement(ctx)
  await backupDatabase(ctx)
  const pending = [...migrations]
  for (let round = 0; round < 80; round++) {
    await Promise.all(
      [1, 2, 3, 4].map(async () => {
        const client = random(next(2 ** 31))
        for (let count = 0; count < 4; count++) await work(source.db, client)
      }),
    )
    moments.push(await momentOf())
    if (round % 5 === 0) await takeIncrement(ctx, { segmentChanges: 10 + next(200) })
    if (round % 12 === 11) {
      const ddl = pending.shift()
      // A hole of its own: what is between a migration and the next full backup is told apart in another test.
      if (ddl !== undefined) await source.db.execute(ddl)
      const report = await takeIncrement(ctx)
      expect(report.fullNeeded === null).toBe(ddl === undefined)
      if (report.fullNeeded !== null) await backupDatabase(ctx)
    }
  }
  await takeIncrement(ctx)
  for (let left = 50; left > 0; left--) {
    const [moment] = moments.splice(next(moments.length), 1)
    if (moment !== undefined) await expectMoment(moment)
  }
})

test(`${kills} kills at random moments of increments, full backups and their retention: no change is lost, and none is there twice`, {
  timeout: 1_800_000,
}, async () => {
  const client = random(seed)
  const moments: Moment[] = []
  await takeIncrement(ctx)
  await backupDatabase(ctx)
  for (let kill = 0; kill < kills; kill++) {
    const child = spawn(
      process.execPath,
      [join(import.meta.dirname, 'increment-forever.child.ts'), source.url, `file://${folder}`, recipient, testEncryptionKey, '5 seconds'],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    )
    const ended = new Promise<NodeJS.Signals | null>((done) => child.once('close', (_, signal) => done(signal)))
    await new Promise((ready) => child.stdout.once('data', ready))
    const stop = delay(randomInt(20, 900))
    let writing = true
    void stop.then(() => {
      child.kill('SIGKILL')
      writing = false
    })
    while (writing) await work(source.db, client)
    expect(await ended).toBe('SIGKILL')
    moments.push(await momentOf())
  }
  // The last one's server process may still be reading.
  for (;;) {
    const outcome = await takeIncrement(ctx).catch((error: unknown) => error)
    if (!hasCode(outcome, 'conflict')) {
      expect(outcome).toMatchObject({ status: 'stored', caughtUp: true, gaps: [] })
      break
    }
    await delay(50)
  }
  // The last, and others: a moment is either whole, or long enough ago to be refused.
  const last = moments.pop()
  if (last !== undefined) await expectMoment(last)
  for (let left = Math.min(10, moments.length); left > 0; left--) {
    const [moment] = moments.splice(randomInt(moments.length), 1)
    if (moment === undefined) continue
    const outcome = await expectMoment(moment).catch((error: unknown) => error)
    const old = Date.parse(moment.at) < Date.now() - 5_000
    if (outcome !== undefined && !(hasCode(outcome, 'invalid_input') && old)) throw outcome
  }
  // Whatever the kills left half deleted, retention goes on from, and what is left brings the present back.
  await backupDatabase(ctx)
  const present = await momentOf()
  await takeIncrement(ctx)
  const later = fixedClock(new Date(ctx.clock.now().getTime() + 8 * 86_400_000))
  expect((await pruneIncrements({ ...ctx, clock: later })).removed).toBeGreaterThan(0)
  await expectMoment(present)
})
