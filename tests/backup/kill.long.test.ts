import { spawn } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { generateX25519Identity, identityToRecipient } from 'age-encryption'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { listBackups, pruneBackups, restoreBackup, verifyBackup } from '../../lib/backup/index.ts'
import { defineConfig } from '../../lib/config/index.ts'
import { openObjectStore } from '../../lib/drivers/objects/index.ts'
import { fixedClock } from '../../lib/platform/clock.ts'
import type { Context } from '../../lib/platform/context.ts'
import { testContext } from '../support/context.ts'
import { createTestDatabase, useTestDatabase } from '../support/database.ts'

const source = useTestDatabase({ template: 'template0' })
const kills = Number(process.env.KILLS ?? 25)
let folder: string
let identity: string
let recipient: string
let ctx: Context

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'caretaker-kill-'))
  identity = await generateX25519Identity()
  recipient = await identityToRecipient(identity)
  ctx = testContext(source.db, {
    config: defineConfig({ app: { name: 'Kill' }, backup: { recipients: [recipient], keep: { daily: 1 } } }),
    objects: () => openObjectStore(`file://${folder}/store`, ctx.env),
  })
  await source.db.execute(`create table t (id int primary key, body text); insert into t select n, md5(n::text) from generate_series(1, 60000) n;
    create table twin (id int primary key); create sequence s`)
  await writeFile(
    join(folder, 'run.ts'),
    `import { backupDatabase, pruneBackups } from ${JSON.stringify(resolve('lib/backup/index.ts'))}
import { defineConfig } from ${JSON.stringify(resolve('lib/config/index.ts'))}
import { openObjectStore } from ${JSON.stringify(resolve('lib/drivers/objects/index.ts'))}
import { openDatabase } from ${JSON.stringify(resolve('lib/platform/db.ts'))}
import { systemClock } from ${JSON.stringify(resolve('lib/platform/clock.ts'))}
import { createLog } from ${JSON.stringify(resolve('lib/platform/log.ts'))}
import { readEnv } from ${JSON.stringify(resolve('lib/platform/env.ts'))}
const env = readEnv({})
const ctx = { config: defineConfig({ app: { name: 'Kill' }, backup: { recipients: ['${recipient}'], keep: { daily: 1 } } }), env, db: openDatabase({ sessionUrl: '${source.url}' }),
  objects: () => openObjectStore('file://${folder}/store', env), log: createLog({ level: 'silent' }), clock: systemClock,
  signal: new AbortController().signal, deadline: new Date(Date.now() + 36e5), actor: { type: 'system' } } as never
process.stdout.write('ready')
for (;;) {
  await backupDatabase(ctx, { partBytes: 200_000 })
  await pruneBackups(ctx)
}`,
  )
})
afterAll(() => rm(folder, { recursive: true, force: true }))

/** Backs up and prunes without end, until it is killed `ms` after it has begun. */
function killAfter(ms: number): Promise<void> {
  return new Promise((done) => {
    const child = spawn(process.execPath, [join(folder, 'run.ts')], { stdio: ['ignore', 'pipe', 'ignore'] })
    child.stdout.once('data', () => setTimeout(() => child.kill('SIGKILL'), ms))
    child.once('close', () => done())
  })
}

test(`${kills} kills at random moments of backup and prune: what shows is whole, and is one moment's state`, {
  timeout: 1_800_000,
}, async () => {
  // Every transaction keeps both tables and the counter equal: a backup that mixes two moments shows.
  let writing = true
  const writer = (async () => {
    for (let n = 1; writing; n++)
      await source.db.execute(`begin; insert into twin values (${n}); update t set body = 'round ${n}' where id = 1; commit`)
  })()
  for (let kill = 0; kill < kills; kill++) {
    await killAfter(randomInt(50, 1_800))
    for (const backup of await listBackups(ctx)) {
      expect(backup.problem).toBeUndefined()
      expect(await verifyBackup(ctx, { id: backup.id, identity })).toMatchObject({ checked: 'content' })
    }
  }
  writing = false
  await writer

  const complete = await listBackups(ctx)
  for (const backup of complete.slice(0, 3)) {
    const target = await createTestDatabase({ template: 'template0' })
    try {
      await restoreBackup(ctx, { id: backup.id, identity, targetUrl: target.url })
      const [state] = await target.db.query<{ twins: string; body: string }>(
        `select (select max(id)::text from twin) as twins, (select body from t where id = 1) as body`,
      )
      expect(state?.body).toBe(state?.twins === null ? expect.any(String) : `round ${state?.twins}`)
    } finally {
      await target.drop()
    }
  }

  // What the kills have left is swept when it is old; nothing else is in the store then.
  const later = { ...ctx, clock: fixedClock(new Date(ctx.clock.now().getTime() + 48 * 3_600_000)) }
  await pruneBackups(later)
  const ids = new Set((await listBackups(ctx)).map((backup) => backup.id))
  const store = await ctx.objects()
  for await (const object of store.list('backups/')) expect(ids.has(object.key.split('/')[1] ?? '')).toBe(true)
})
