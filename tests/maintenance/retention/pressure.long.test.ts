import { setTimeout as delay } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type Database, openDatabase } from '../../../lib/platform/db.ts'
import { logLines } from '../../support/context.ts'
import { useTestDatabase } from '../../support/database.ts'
import { retentionRig } from './rig.ts'

describe('retention and others', () => {
  const test = useTestDatabase()
  const { strictPolicy, counts, count, sql, job } = retentionRig(test)
  const rule = { table: 'logs', column: 'at', olderThan: '30 days', action: 'purge' } as const
  const policy = (limits: NonNullable<Parameters<typeof strictPolicy>[0][number]['limits']>) =>
    strictPolicy([{ ...rule, limits: { maxShare: 1, ...limits } }])
  let other: Database

  beforeEach(async () => {
    other = openDatabase({ sessionUrl: test.url, maxConnections: 3 })
    await test.db.execute('create schema if not exists public')
    await sql(
      'create table logs (id bigint primary key, at timestamptz not null)',
      `insert into logs select n, now() - interval '60 days' from generate_series(1, 5000) n`,
    )
  })
  afterEach(async () => {
    await other.close()
    await test.db.execute('drop schema public cascade')
    await test.db.execute('delete from caretaker.retention_positions')
  })

  const until = async (what: () => Promise<boolean>) => {
    while (!(await what())) await delay(10)
  }

  it('waits while an old snapshot is open, says so, and goes on when it ends', async () => {
    const ctx = policy({ snapshotAge: '1 second' })
    let end: () => void = () => undefined
    const open = new Promise<void>((resolve) => {
      end = resolve
    })
    const dump = other.transaction(
      async (tx) => {
        await tx.query('select 1')
        await open
      },
      { isolation: 'repeatable read' },
    )
    await until(
      async () =>
        (await count(
          `pg_stat_activity where backend_xmin is not null and clock_timestamp() - xact_start > interval '1.1 seconds' and datname = current_database()`,
        )) === 1,
    )
    const done = counts(ctx)
    await until(() => Promise.resolve(logLines(ctx).some((line) => line.includes('retention pauses'))))
    end()
    await dump
    expect((await done)['purge logs']).toMatchObject({
      rows: 5_000,
      pausedFor: expect.stringMatching(/^another session's snapshot is \d+ s old \(limit 1 s\)/),
    })
    expect(logLines(ctx).some((line) => line.includes('retention has waited') && line.includes('"end":"clear"'))).toBe(true)
  })

  it('leaves the rest to the next run when its patience ends, with the cursor, and tells of it', async () => {
    await sql(`insert into logs select n, now() - interval '60 days' from generate_series(5001, 30000) n`)
    const before = await count(`caretaker.outbox where topic = 'retention.deferred'`)
    await other.transaction(
      async (tx) => {
        await tx.query('select 1')
        await until(
          async () =>
            (await count(
              `pg_stat_activity where backend_xmin is not null and clock_timestamp() - xact_start > interval '1.1 seconds' and datname = current_database()`,
            )) === 1,
        )
        const done = (await counts(policy({ snapshotAge: '1 second', patience: '1 second' })))['purge logs']
        expect(done).toMatchObject({ left: expect.stringContaining('snapshot') })
        expect(done?.rows).toBeLessThan(30_000)
        expect(done?.pausedMs).toBeGreaterThanOrEqual(1_000)
      },
      { isolation: 'repeatable read' },
    )
    expect(await count(`caretaker.outbox where topic = 'retention.deferred'`)).toBe((before ?? 0) + 1)
    expect(await test.db.query(`select rule from caretaker.retention_positions`)).toEqual([{ rule: 'logs' }])
    expect((await counts(policy({})))['purge logs']?.left).toBeUndefined()
    expect(await count('logs')).toBe(0)
  })

  it('hands over in the middle of a pause, and remembers how long it has waited', async () => {
    await other.transaction(
      async (tx) => {
        await tx.query('select 1')
        await until(
          async () =>
            (await count(
              `pg_stat_activity where backend_xmin is not null and clock_timestamp() - xact_start > interval '1.1 seconds' and datname = current_database()`,
            )) === 1,
        )
        const name = job()
        const ctx = policy({ snapshotAge: '1 second', patience: '1 minute' })
        expect(await counts(ctx, { shouldHandOver: () => logLines(ctx).some((line) => line.includes('retention pauses')) }, name)).toEqual(
          {},
        )
        const [run] = await test.db.query<{ waited: number; paused: string }>(
          `select (checkpoint->'current'->'inner'->>'waitedMs')::int as waited, checkpoint->'current'->'counts'->>'pausedFor' as paused from caretaker.runs where job = $1`,
          [name],
        )
        expect(run?.waited).toBeGreaterThanOrEqual(0)
        expect(run?.paused).toContain('snapshot')
      },
      { isolation: 'repeatable read' },
    )
  })

  it('stands aside for whoever waits for the table', async () => {
    const ctx = policy({})
    let end: () => void = () => undefined
    const open = new Promise<void>((resolve) => {
      end = resolve
    })
    const reader = other.transaction(async (tx) => {
      await tx.query('select count(*) from logs')
      await open
    })
    await until(async () => (await count(`pg_locks where relation = 'logs'::regclass and granted`)) === 1)
    // Waits for the reader, and everybody who comes after waits for it.
    const migration = other.execute('alter table logs add column note text')
    await until(async () => (await count(`pg_locks where relation = 'logs'::regclass and not granted`)) === 1)
    const done = counts(ctx)
    await until(() => Promise.resolve(logLines(ctx).some((line) => line.includes('retention pauses'))))
    end()
    await Promise.all([reader, migration])
    expect((await done)['purge logs']).toMatchObject({ rows: 5_000, pausedFor: 'another session waits for a lock on logs' })
  })
})
