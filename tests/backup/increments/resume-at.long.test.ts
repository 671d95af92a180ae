import { spawn } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { stopIncrements, takeIncrement } from '../../../lib/backup/increments/index.ts'
import { backupDatabase, type RestoreAtInput, restoreAt, restoreBackup } from '../../../lib/backup/index.ts'
import { defineConfig } from '../../../lib/config/index.ts'
import { openObjectStore } from '../../../lib/drivers/objects/index.ts'
import type { Context } from '../../../lib/platform/context.ts'
import { testContext } from '../../support/context.ts'
import { createTestDatabase, type TestDatabase, useTestDatabase } from '../../support/database.ts'
import { serverUrl, useOwnServer } from '../../support/own-server.ts'
import { contentsOf, schemaOf } from '../state.ts'

/*
 * Restores of a moment that are killed again and again, each going on where the one before was: in the full backup, among the changes,
 * behind them. By a role that may keep triggers still, and by one that has to drop the foreign keys. `KILLS=100` takes some minutes.
 */

useOwnServer()
const source = useTestDatabase({ template: 'template0' })
const kills = Number(process.env.KILLS ?? 12)
let folder: string
let ctx: Context
let at: string
let before: string
let owner: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'caretaker-resume-at-'))
  ctx = testContext(source.db, {
    config: defineConfig({ app: { name: 'Moments' }, backup: { encryption: 'none', increments: {} } }),
    objects: () => openObjectStore(`file://${folder}/store`, ctx.env),
  })
  owner = `owner_${source.name}`
  await source.db.execute(`create role ${owner} login createrole`)
  await source.db.execute(`
    create table public.accounts (id int primary key, balance int not null, note text);
    create table public.entries (id bigint generated always as identity primary key, account int not null references public.accounts, amount int);
    create table public.log (line text); alter table public.log replica identity full;
    create function public.book() returns trigger language plpgsql as $$ begin insert into public.entries (account, amount) values (new.id, new.balance - old.balance); return new; end $$;
    create trigger book after update on public.accounts for each row execute function public.book();
    create materialized view public.sums as select account, sum(amount) from public.entries group by 1;
    insert into public.accounts select n, 100, md5(n::text) from generate_series(1, 3000) n`)
  await takeIncrement(ctx)
  await backupDatabase(ctx)
  for (let round = 1; round <= 14; round++) {
    if (round === 3) [{ before = '' } = {}] = await source.db.query<{ before: string }>(`select now()::text as before`)
    await source.db.execute(`update public.accounts set balance = balance + ${round} where id % 2 = ${round % 2}`)
    await source.db.execute(
      `insert into public.log select 'round ${round}' from generate_series(1, 20); delete from public.log where line = 'round ${round - 1}'`,
    )
  }
  await takeIncrement(ctx, { segmentChanges: 9_000 })
  await source.db.execute('refresh materialized view public.sums')
  const [{ now = '' } = {}] = await source.db.query<{ now: string }>(
    `select to_char(clock_timestamp() at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as now`,
  )
  await takeIncrement(ctx)
  at = now
  await writeFile(
    join(folder, 'child.ts'),
    `import { restoreAt } from ${JSON.stringify(resolve('lib/backup/index.ts'))}
import { defineConfig } from ${JSON.stringify(resolve('lib/config/index.ts'))}
import { openObjectStore } from ${JSON.stringify(resolve('lib/drivers/objects/index.ts'))}
import { openDatabase } from ${JSON.stringify(resolve('lib/platform/db.ts'))}
import { systemClock } from ${JSON.stringify(resolve('lib/platform/clock.ts'))}
import { createLog } from ${JSON.stringify(resolve('lib/platform/log.ts'))}
import { readEnv } from ${JSON.stringify(resolve('lib/platform/env.ts'))}
const [at, targetUrl] = process.argv.slice(2)
const env = readEnv({ ENCRYPTION_KEY: ${JSON.stringify(ctx.env.ENCRYPTION_KEY)} })
const ctx = { config: defineConfig({ app: { name: 'Moments' }, backup: { encryption: 'none', increments: {} } }), env, db: openDatabase({ sessionUrl: '${source.url}' }),
  objects: () => openObjectStore('file://${folder}/store', env), log: createLog({ level: 'silent' }), clock: systemClock,
  signal: new AbortController().signal, deadline: new Date(Date.now() + 36e5), actor: { type: 'system' } } as never
process.stdout.write('ready')
await restoreAt(ctx, { at, targetUrl, resume: true })
process.exit(0)`,
  )
})
afterAll(async () => {
  await stopIncrements(ctx)
  await source.db.execute(`drop role ${owner}`)
  await rm(folder, { recursive: true, force: true })
})

/** One restore, killed `ms` after it has begun, or at its end. */
function run(targetUrl: string, ms: number): Promise<'killed' | 'done' | string> {
  return new Promise((done) => {
    const child = spawn(process.execPath, [join(folder, 'child.ts'), at, targetUrl], { stdio: ['ignore', 'pipe', 'pipe'] })
    let errors = ''
    child.stderr.on('data', (chunk: Buffer) => {
      errors += chunk.toString()
    })
    child.stdout.once('data', () => setTimeout(() => child.kill('SIGKILL'), ms))
    child.once('close', (code, signal) => done(signal === 'SIGKILL' ? 'killed' : code === 0 ? 'done' : errors))
  })
}

async function isHalfDone(target: TestDatabase): Promise<boolean> {
  const [there] = await target.db.query<{ exists: boolean }>(`select to_regclass('caretaker_restore.done') is not null as exists`)
  return there?.exists === true
}

async function isBegun(target: TestDatabase): Promise<boolean> {
  const [there] = await target.db.query<{ exists: boolean }>(`select to_regclass('public.accounts') is not null as exists`)
  return there?.exists === true
}

async function changesIn(target: TestDatabase): Promise<number> {
  if (!(await isHalfDone(target))) return 0
  const [row] = await target.db.query<{ changes: number }>(
    `select coalesce(max((detail ->> 'changes')::int), 0) as changes from caretaker_restore.done where step = 'changes'`,
  )
  return row?.changes ?? 0
}

describe.each(['superuser', 'owner'])('as %s', (role) => {
  const urlOf = (target: TestDatabase) =>
    role === 'owner' ? serverUrl().replace('postgres@', `${owner}@`).replace('%s', target.name) : target.url

  async function withTarget(work: (target: TestDatabase, url: string) => Promise<void>): Promise<void> {
    const target = await createTestDatabase({ template: 'template0' })
    try {
      if (role === 'owner') await target.db.execute(`alter database ${target.name} owner to ${owner}`)
      await work(target, urlOf(target))
    } finally {
      await target.drop()
    }
  }

  test('kills at random moments: it goes on each time, repeats no change, and ends with the exact state', {
    timeout: 1_800_000,
  }, async () => {
    const expected = await contentsOf(source.db)
    for (let left = kills / 2; left > 0; ) {
      await withTarget(async (target, url) => {
        let ended = ''
        let known = 0
        for (; left > 0 && ended !== 'done'; left--) {
          ended = await run(url, randomInt(150, 2_500))
          expect(ended).toMatch(/^(killed|done)$/)
          // Its last act is to take its notes away: who was killed behind that had nothing left to do.
          if (!(await isHalfDone(target)) && (await isBegun(target))) ended = 'done'
          if (ended === 'done') break
          const changes = await changesIn(target)
          expect(changes).toBeGreaterThanOrEqual(known)
          known = changes
        }
        if (ended !== 'done') {
          const report = await restoreAt(ctx, { at, targetUrl: url, resume: true })
          expect(report).toMatchObject({ problems: [], asOfBase: [], changes: expect.toSatisfy((changes: number) => changes > 40_000) })
        }
        expect(await contentsOf(target.db)).toEqual(expected)
        if (role === 'superuser') expect(await schemaOf(target.url)).toBe(await schemaOf(source.url))
      })
    }
  })

  test('stopped among the changes it is not mixed with another restore', async () => {
    await withTarget(async (target, url) => {
      const stopping = new AbortController()
      const restore = (input: Partial<RestoreAtInput>, context = ctx) => restoreAt(context, { at, targetUrl: url, ...input })
      const broken = restore(
        { onProgress: ({ what }) => /^changes: [1-9]/.test(what) && stopping.abort(new Error('stopped')) },
        { ...ctx, signal: stopping.signal },
      )
      await expect(broken).rejects.toMatchObject({ detail: expect.stringContaining('--resume') })
      expect(await changesIn(target)).toBeGreaterThan(0)
      const state = {
        code: 'restore_target_not_empty',
        detail: expect.stringMatching(/go on with `caretaker backup restore --at 20\S+Z --to URL --resume`/),
      }
      await expect(restore({ resume: true, at: before.replace(' ', 'T') })).rejects.toMatchObject(state)
      await expect(restoreBackup(ctx, { id: 'latest', targetUrl: url, resume: true })).rejects.toMatchObject(state)
      await expect(restore({})).rejects.toMatchObject({ code: 'restore_target_not_empty', detail: expect.stringContaining('--resume') })
      // "latest" means the moment it began with.
      await source.db.execute(`insert into public.log values ('later')`)
      await takeIncrement(ctx)
      const report = await restore({ resume: true, at: 'latest' })
      await source.db.execute(`delete from public.log where line = 'later'`)
      expect(report).toMatchObject({ at, problems: [], base: { runs: 2 } })
      expect(await contentsOf(target.db)).toEqual(await contentsOf(source.db))
    })
  })
})
