import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { defineConfig } from '../../../lib/config/index.ts'
import { runSteps } from '../../../lib/maintenance/index.ts'
import { type Database, openDatabase } from '../../../lib/platform/db.ts'
import { testContext } from '../../support/context.ts'
import { useTestDatabase } from '../../support/database.ts'
import { openRun } from '../job-run.ts'
import { createFamilies, familyRules, startFamilies } from './families.ts'
import { createPastPartition, createTrafficTables, mulberry32, startTraffic, trafficRules } from './traffic.ts'

const worker = fileURLToPath(new URL('./kills.child.ts', import.meta.url))

async function growOldAgain(db: Database, slot: number, rows: number): Promise<void> {
  await createPastPartition(db)
  const ids = `generate_series(${slot * rows + 1}, ${(slot + 1) * rows}) n`
  for (const table of ['archived', 'purged', 'masked', 'parted'])
    await db.execute(`insert into ${table} (id, version, at, text) select -n, 0, now() - interval '60 days', '-' from ${ids}`)
  const parents = `${ids} where n % 10 = 0`
  await db.execute(`insert into parents select -n, 0, now() - interval '60 days' from ${parents}`)
  await db.execute(`insert into kids select -2 * n + k, -n, 0 from generate_series(0, 1) k, ${parents}`)
}

describe('retention under SIGKILL', () => {
  const test = useTestDatabase()

  it('loses, doubles and changes no row, and tears no family apart, in 50 kills while others write', async () => {
    const rows = 20_000
    const families = 5_000
    const again = 10_000
    const seed = Number(process.env.SEED ?? 20261121)
    const random = mulberry32(seed)
    await createTrafficTables(test.db, rows)
    await createFamilies(test.db, families)
    const traffic = openDatabase({ sessionUrl: test.url, maxConnections: 8 })
    try {
      const writing = startTraffic(traffic, { rows, writers: 4, seed })
      const breeding = startFamilies(traffic, { families, writers: 3, seed })
      let kills = 0
      let finished = 0
      for (let slot = 0; kills < 50; slot++) {
        // What is left grows old again, so that every slot has work to be killed in.
        if (finished > 0) await growOldAgain(test.db, slot, again)
        // Each life is longer than the one before: on a slow machine a slot must end as well.
        for (let life = 10; ; life++) {
          const ended = await runKilled(test.url, `slot ${slot}`, () => ((20 + random() * 400) * life) / 10)
          if (ended) break
          kills++
        }
        finished++
      }
      await Promise.all([writing.stop(), breeding.stop()])
      const config = defineConfig({
        app: { name: 'Test' },
        retention: [...trafficRules, ...familyRules],
        maintenance: { limits: { maxShare: 1 } },
      })
      await runSteps(testContext(test.db, { config }), [{ retention: 'all' }], await openRun(test.db, 'last'))
      // What the runs counted is what happened: each count committed with its batch, or not at all.
      const [counted] = await test.db.query<Record<string, number>>(
        `select (select sum((checkpoint->'done'->'archive archived'->>'rows')::int)::int from caretaker.runs) as counted,
                (select count(*)::int from archived_archive) as there,
                (select sum((checkpoint->'done'->'archive families'->>'childRows')::int)::int from caretaker.runs) as "countedKids",
                (select count(*)::int from kids_archive) as "thereKids",
                (select sum((checkpoint->'done'->'purge parted'->>'partitionsDropped')::int)::int from caretaker.runs) as dropped`,
      )
      expect(counted?.counted).toBe(counted?.there)
      expect(counted?.there).toBeGreaterThan(0)
      expect(counted?.countedKids).toBe(counted?.thereKids)
      expect(counted?.dropped).toBe(finished)
      // Rows of later slots are nobody's in the model; the archive must hold each of them once, and the tables none.
      const [extra] = await test.db.query(
        `select (select count(*)::int from archived_archive where id < 0) as archived,
                (select count(*)::int from (select from archived_archive where id < 0 group by id having count(*) > 1) x) as doubled,
                (select count(*)::int from purged where id < 0) as purged,
                (select count(*)::int from parted where id < 0) as parted,
                (select count(*)::int from parents where id < 0) as parents,
                (select count(*)::int from kids_archive where id < 0) as kids,
                (select count(*)::int from masked where id < 0 and (text <> '[ANONYMIZED]' or masked is not true)) as masked`,
      )
      expect(extra).toEqual({
        archived: (finished - 1) * again,
        doubled: 0,
        purged: 0,
        parted: 0,
        parents: 0,
        kids: ((finished - 1) * again) / 5,
        masked: 0,
      })
      // Nothing is left between detaching and dropping.
      expect(
        await test.db.query(
          `select (select count(*)::int from caretaker.detached_partitions) as recorded, to_regclass('parted_past')::text as past,
                  (select count(*)::int from pg_inherits where inhdetachpending) as pending`,
        ),
      ).toEqual([{ recorded: 0, past: null, pending: 0 }])
      for (const table of ['archived_archive', 'masked']) await test.db.execute(`delete from ${table} where id < 0`)
      expect(await writing.differences()).toEqual([])
      expect(await breeding.differences()).toEqual([])
    } finally {
      await traffic.close()
    }
  }, 1_200_000)

  it('fails, and says so, when a table stays locked', async () => {
    await test.db.execute('create table busy (id int primary key, at timestamptz not null)')
    await test.db.execute(`insert into busy values (1, now() - interval '1 year')`)
    const rules = [{ table: 'busy', column: 'at', olderThan: '30 days', action: 'purge' as const }]
    const ctx = testContext(test.db, { config: defineConfig({ app: { name: 'Test' }, retention: rules }) })
    const run = await openRun(test.db, 'busy')
    await test.db.transaction(async (tx) => {
      await tx.execute('lock table busy in share mode')
      await expect(runSteps(ctx, [{ retention: 'all' }], run)).rejects.toMatchObject({
        code: 'conflict',
        detail: expect.stringContaining('busy could not be locked in 8 tries'),
      })
    })
  })
})

/** Runs a worker and kills it after a while that begins when it begins to work. True when it ended by itself. */
async function runKilled(url: string, job: string, afterMs: () => number): Promise<boolean> {
  const child = spawn(process.execPath, [worker, url, job], { stdio: ['ignore', 'pipe', 'pipe'] })
  let errors = ''
  child.stderr.on('data', (chunk: Buffer) => {
    errors += chunk.toString()
  })
  const exit = once(child, 'exit') as Promise<[code: number | null, signal: string | null]>
  await Promise.race([once(child.stdout, 'data'), exit])
  await Promise.race([delay(afterMs()), exit])
  child.kill('SIGKILL')
  const [code, signal] = await exit
  if (signal === null && code !== 0) throw new Error(`the worker failed: ${errors}`)
  return signal === null
}
