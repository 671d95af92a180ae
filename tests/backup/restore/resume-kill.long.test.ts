import { spawn } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { backupDatabase, restoreBackup } from '../../../lib/backup/index.ts'
import { defineConfig } from '../../../lib/config/index.ts'
import { openObjectStore } from '../../../lib/drivers/objects/index.ts'
import type { Context } from '../../../lib/platform/context.ts'
import { testContext, testEncryptionKey } from '../../support/context.ts'
import { createTestDatabase, type TestDatabase, useTestDatabase } from '../../support/database.ts'
import { contentsOf, schemaOf } from '../state.ts'
import { makeZoo } from '../zoo.ts'

/*
 * Restores that are killed again and again, each going on where the one before was, until one comes to its end. Half of them open groups of
 * tables early, and somebody writes into those. `KILLS=100` takes some minutes.
 */

const source = useTestDatabase({ template: 'template0' })
const kills = Number(process.env.KILLS ?? 26)
let folder: string
let ctx: Context
let id: string

const policy = `{ app: { name: 'Kill' }, backup: { encryption: 'none', restoreOrder: { first: ['people', 'zoo.parents'], second: ['*'], last: ['filler'] } } }`

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'caretaker-resume-kill-'))
  const env = { ENCRYPTION_KEY: testEncryptionKey }
  ctx = testContext(source.db, {
    config: defineConfig({ app: { name: 'Kill' }, backup: { encryption: 'none' } }),
    objects: () => openObjectStore(`file://${folder}/store`, ctx.env),
  })
  await makeZoo(source.db)
  await source.db.execute(`create table public.people (id int primary key, name text not null); insert into people select n, 'person ' || n from generate_series(1, 200) n;
    create table public.filler (id int primary key, person int references people, body text); insert into filler select n, n % 200 + 1, md5(n::text) || md5((-n)::text) from generate_series(1, 120000) n;
    create index on public.filler (body); create index on public.filler (person)`)
  id = (await backupDatabase(ctx, { partBytes: 400_000 })).id
  await writeFile(
    join(folder, 'child.ts'),
    `import { restoreBackup } from ${JSON.stringify(resolve('lib/backup/index.ts'))}
import { defineConfig } from ${JSON.stringify(resolve('lib/config/index.ts'))}
import { openObjectStore } from ${JSON.stringify(resolve('lib/drivers/objects/index.ts'))}
import { openDatabase } from ${JSON.stringify(resolve('lib/platform/db.ts'))}
import { systemClock } from ${JSON.stringify(resolve('lib/platform/clock.ts'))}
import { createLog } from ${JSON.stringify(resolve('lib/platform/log.ts'))}
import { readEnv } from ${JSON.stringify(resolve('lib/platform/env.ts'))}
const [id, targetUrl, early] = process.argv.slice(2)
const env = readEnv(${JSON.stringify(env)})
const ctx = { config: defineConfig(${policy}), env, db: openDatabase({ sessionUrl: '${source.url}' }),
  objects: () => openObjectStore('file://${folder}/store', env), log: createLog({ level: 'silent' }), clock: systemClock,
  signal: new AbortController().signal, deadline: new Date(Date.now() + 36e5), actor: { type: 'system' } } as never
process.stdout.write('ready')
await restoreBackup(ctx, { id, targetUrl, resume: true, ...(early === 'early' ? { openEarly: () => Promise.resolve(null) } : {}) })
process.exit(0)`,
  )
})
afterAll(() => rm(folder, { recursive: true, force: true }))

/** One restore, killed `ms` after it has begun, or at its end. */
function run(target: TestDatabase, early: boolean, ms: number): Promise<'killed' | 'done' | string> {
  return new Promise((done) => {
    const child = spawn(process.execPath, [join(folder, 'child.ts'), id, target.url, early ? 'early' : 'late'], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let errors = ''
    child.stderr.on('data', (chunk: Buffer) => {
      errors += chunk.toString()
    })
    child.stdout.once('data', () => setTimeout(() => child.kill('SIGKILL'), ms))
    child.once('close', (code, signal) => done(signal === 'SIGKILL' ? 'killed' : code === 0 ? 'done' : errors))
  })
}

/** Steps that were done when it was looked, each with its time: what is done twice would have another. */
async function stepsOf(target: TestDatabase): Promise<Map<string, string>> {
  const [there] = await target.db.query<{ exists: boolean }>(`select to_regclass('caretaker_restore.done') is not null as exists`)
  if (there?.exists !== true) return new Map()
  const rows = await target.db.query<{ step: string; at: string }>('select step, at::text as at from caretaker_restore.done')
  return new Map(rows.map((row) => [row.step, row.at]))
}

/** There is something in it, and no note of a restore. */
async function isWhole(target: TestDatabase): Promise<boolean> {
  const [there] = await target.db.query<{ whole: boolean }>(
    `select to_regclass('caretaker_restore.done') is null and to_regclass('public.filler') is not null as whole`,
  )
  return there?.whole === true
}

test('kills at random moments of a restore: it goes on each time, repeats no table, and ends with the exact snapshot', {
  timeout: 1_800_000,
}, async () => {
  let left = kills
  for (let round = 0; left > 0; round++) {
    const early = round % 2 === 1
    const target = await createTestDatabase({ template: 'template0' })
    try {
      let known = new Map<string, string>()
      const written: number[] = []
      let ended = ''
      for (; left > 0 && ended !== 'done'; left--) {
        ended = await run(target, early, randomInt(50, 1_100))
        expect(ended).toMatch(/^(killed|done)$/)
        // Its last act is to take its notes away: who was killed behind that had nothing left to do.
        if (await isWhole(target)) ended = 'done'
        if (ended === 'done') break
        const steps = await stepsOf(target)
        for (const [step, at] of known) expect([step, steps.get(step)]).toEqual([step, at])
        known = steps
        // The app is at work with what is open: what it writes stays.
        if (steps.has('open:first')) {
          const next = 1_000 + written.length
          await target.db.execute('insert into public.people values ($1::int, $2)', [next, 'new'])
          written.push(next)
        }
      }
      if (ended !== 'done') await restoreBackup(ctx, { id, targetUrl: target.url, resume: true })
      expect(await target.db.query('delete from public.people where id >= 1000 returning id')).toHaveLength(written.length)
      expect(await schemaOf(target.url)).toBe(await schemaOf(source.url))
      expect(await contentsOf(target.db)).toEqual(await contentsOf(source.db))
    } finally {
      await target.drop()
    }
  }
})
