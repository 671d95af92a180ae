import { spawn } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { generateX25519Identity, identityToRecipient } from 'age-encryption'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { backupDatabase, listBackups, pruneBackups, restoreBackup, verifyBackup } from '../../lib/backup/index.ts'
import { readManifest } from '../../lib/backup/manifest.ts'
import { defineConfig } from '../../lib/config/index.ts'
import { openObjectStore } from '../../lib/drivers/objects/index.ts'
import { fixedClock } from '../../lib/platform/clock.ts'
import type { Context } from '../../lib/platform/context.ts'
import { openDatabase } from '../../lib/platform/db.ts'
import { testContext, testEncryptionKey } from '../support/context.ts'
import { createTestDatabase, useTestDatabase } from '../support/database.ts'
import { contentsOf } from './state.ts'

const source = useTestDatabase({ template: 'template0' })
/** Three in four of backup and prune, the rest of restores. `KILLS=100` takes five minutes. */
const kills = Number(process.env.KILLS ?? 28)
let folder: string
let identity: string
let ctx: Context

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'caretaker-kill-'))
  identity = await generateX25519Identity()
  const recipient = await identityToRecipient(identity)
  ctx = testContext(source.db, {
    config: defineConfig({ app: { name: 'Kill' }, backup: { recipients: [recipient], keep: { daily: 1 } } }),
    objects: () => openObjectStore(`file://${folder}/store`, ctx.env),
  })
  await source.db.execute(`create table filler (id int primary key, body text); insert into filler select n, md5(n::text) from generate_series(1, 60000) n;
    create table checking (id int primary key, amount int not null); create table saving (id int primary key, amount int not null);
    insert into checking select n, 0 from generate_series(1, 40) n; insert into saving select n, 0 from generate_series(1, 40) n;
    create table journal (id bigint generated always as identity primary key, xid xid8 not null default pg_current_xact_id(), account int not null)`)
  await writeFile(
    join(folder, 'child.ts'),
    `import { backupDatabase, pruneBackups, restoreBackup } from ${JSON.stringify(resolve('lib/backup/index.ts'))}
import { defineConfig } from ${JSON.stringify(resolve('lib/config/index.ts'))}
import { openObjectStore } from ${JSON.stringify(resolve('lib/drivers/objects/index.ts'))}
import { openDatabase } from ${JSON.stringify(resolve('lib/platform/db.ts'))}
import { systemClock } from ${JSON.stringify(resolve('lib/platform/clock.ts'))}
import { createLog } from ${JSON.stringify(resolve('lib/platform/log.ts'))}
import { readEnv } from ${JSON.stringify(resolve('lib/platform/env.ts'))}
const [id, targetUrl, clean] = process.argv.slice(2)
const env = readEnv({ ENCRYPTION_KEY: '${testEncryptionKey}' })
const ctx = { config: defineConfig({ app: { name: 'Kill' }, backup: { recipients: ['${recipient}'], keep: { daily: 1 } } }), env, db: openDatabase({ sessionUrl: '${source.url}' }),
  objects: () => openObjectStore('file://${folder}/store', env), log: createLog({ level: 'silent' }), clock: systemClock,
  signal: new AbortController().signal, deadline: new Date(Date.now() + 36e5), actor: { type: 'system' } } as never
process.stdout.write('ready')
for (;;) {
  if (id !== undefined) {
    await restoreBackup(ctx, { id, identity: '${identity}', targetUrl, clean })
  } else {
    await backupDatabase(ctx, { partBytes: 200_000 })
    await pruneBackups(ctx)
  }
}`,
  )
})
afterAll(() => rm(folder, { recursive: true, force: true }))

/** Does its work again and again, until it is killed `ms` after it has begun. False when it ended before by itself. */
function killAfter(ms: number, args: string[] = []): Promise<boolean> {
  return new Promise((done) => {
    const child = spawn(process.execPath, [join(folder, 'child.ts'), ...args], { stdio: ['ignore', 'pipe', 'ignore'] })
    child.stdout.once('data', () => setTimeout(() => child.kill('SIGKILL'), ms))
    child.once('close', (_code, signal) => done(signal === 'SIGKILL'))
  })
}

async function measured(work: () => Promise<unknown>): Promise<number> {
  const begun = performance.now()
  await work()
  return performance.now() - begun
}

/** Writers that change three tables in each transaction, until they are told to stop. */
function keepWriting(): { stop(): Promise<void> } {
  let writing = true
  const writers = [1, 2].map(async () => {
    const db = openDatabase({ sessionUrl: source.url, maxConnections: 1 })
    while (writing) {
      const account = randomInt(1, 41)
      await db.transaction(async (tx) => {
        await tx.execute('update checking set amount = amount - 1 where id = $1::int', [account])
        await tx.execute('insert into journal (account) values ($1::int)', [account])
        await tx.execute('update saving set amount = amount + 1 where id = $1::int', [account])
      })
    }
    await db.close()
  })
  return {
    async stop() {
      writing = false
      await Promise.all(writers)
    },
  }
}

/** Restores the backup and holds it against the source: the rows of just those transactions that its snapshot sees, in all tables. */
async function expectSnapshot(id: string): Promise<void> {
  const target = await createTestDatabase({ template: 'template0' })
  try {
    await restoreBackup(ctx, { id, identity, targetUrl: target.url })
    await expectMoment(id, target.db)
  } finally {
    await target.drop()
  }
}

async function expectMoment(id: string, restored: Context['db']): Promise<void> {
  const { snapshot } = (await readManifest(await ctx.objects(), id)).manifest
  const expected = await source.db.query(
    'select account, count(*)::int as moves, sum(id)::text as ids from journal where pg_visible_in_snapshot(xid, $1::pg_snapshot) group by account order by account',
    [snapshot.visible],
  )
  expect(
    await restored.query('select account, count(*)::int as moves, sum(id)::text as ids from journal group by account order by account'),
  ).toEqual(expected)
  const off = `select id from checking full join saving using (id) full join (select account as id, count(*) as moves from journal group by account) j using (id)
    where checking.amount is distinct from -coalesce(moves, 0) or saving.amount is distinct from coalesce(moves, 0)`
  expect(await restored.query(off)).toEqual([])
  expect(await restored.query('select count(*)::int from filler where body = md5(id::text)')).toEqual([{ count: 60_000 }])
}

test('kills at random moments of backup and prune: what shows is whole, and is the state its snapshot saw', {
  timeout: 1_800_000,
}, async () => {
  const writers = keepWriting()
  // One that nobody disturbs: there is something to show from the first kill on, and how long one takes here.
  const wholeMs = await measured(() => backupDatabase(ctx, { partBytes: 200_000 }))
  let restored = 0
  for (let kill = 0; kill < Math.ceil(kills * 0.75); kill++) {
    expect(await killAfter(randomInt(50, Math.min(8_000, Math.max(1_800, Math.ceil(1.5 * wholeMs)))))).toBe(true)
    const shown = await listBackups(ctx)
    for (const backup of shown) {
      expect(backup.problem).toBeUndefined()
      expect(await verifyBackup(ctx, { id: backup.id, identity })).toMatchObject({ checked: 'content' })
    }
    const [newest] = shown
    if (newest !== undefined && kill % 3 === 0) {
      await expectSnapshot(newest.id)
      restored++
    }
  }
  await writers.stop()
  expect(restored).toBeGreaterThan(0)
  for (const backup of await listBackups(ctx)) await expectSnapshot(backup.id)

  // What the kills have left is swept when it is old; nothing else is in the store then.
  await pruneBackups({ ...ctx, clock: fixedClock(new Date(ctx.clock.now().getTime() + 48 * 3_600_000)) })
  const ids = new Set((await listBackups(ctx)).map((backup) => backup.id))
  const store = await ctx.objects()
  for await (const object of store.list('backups/')) expect(ids.has(object.key.split('/')[1] ?? '')).toBe(true)
})

test('kills at random moments of a restore: the next one, which empties the target, brings the same state', {
  timeout: 1_800_000,
}, async () => {
  const { id } = await backupDatabase(ctx, { partBytes: 200_000 })
  const target = await createTestDatabase({ template: 'template0' })
  try {
    for (let kill = 0; kill < Math.floor(kills / 4); kill++)
      expect(await killAfter(randomInt(20, 1_500), [id, target.url, target.name])).toBe(true)
    await restoreBackup(ctx, { id, identity, targetUrl: target.url, clean: target.name })
    await expectMoment(id, target.db)
    expect(await contentsOf(target.db)).toEqual(await contentsOf(source.db))
  } finally {
    await target.drop()
  }
})
