import pg from 'pg'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { runSteps } from '../../lib/maintenance/index.ts'
import { testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'
import { countsOf, openRun } from './job-run.ts'

describe('a rebuild that is killed', () => {
  const test = useTestDatabase()
  const held: pg.Client[] = []
  let jobs = 0

  beforeEach(async () => {
    await test.db.execute('drop table if exists t')
    await test.db.execute('create table t (id int)')
    await test.db.execute('insert into t select generate_series(1, 1000)')
    await test.db.execute('create index t_id on t (id)')
  })
  afterEach(async () => {
    for (const client of held.splice(0)) await client.end().catch(() => undefined)
  })

  const connect = async () => {
    const client = new pg.Client({ connectionString: test.url })
    client.on('error', () => undefined)
    await client.connect()
    held.push(client)
    return client
  }
  /** A transaction that a rebuild must wait for: before the swap by its snapshot, or after it by its lock. */
  const obstacle = async (kind: 'snapshot' | 'reader') => {
    const client = await connect()
    await client.query(kind === 'snapshot' ? 'begin isolation level repeatable read' : 'begin')
    await client.query(kind === 'snapshot' ? 'select 1' : 'select from t limit 1')
    return client
  }
  const phase = { snapshot: 'waiting for old snapshots', reader: 'waiting for readers before marking dead' }
  /** Of this database: other tests build indexes in theirs. */
  const builds = 'pg_stat_progress_create_index where datname = current_database()'
  const sessions = 'pg_stat_activity where datname = current_database()'
  const waitFor = (wanted: string) =>
    expect
      .poll(async () => (await test.db.query<{ phase: string }>(`select phase from ${builds}`)).map((row) => row.phase), {
        timeout: 60_000,
      })
      .toContain(wanted)
  const indexes = async () =>
    (
      await test.db.query<{ name: string; valid: boolean }>(
        `select c.relname as name, i.indisvalid as valid from pg_index i join pg_class c on c.oid = i.indexrelid where i.indrelid = 't'::regclass order by 1`,
      )
    ).map(({ name, valid }) => `${name}${valid ? '' : ' invalid'}`)
  const reindex = async () =>
    countsOf(await runSteps(testContext(test.db), [{ reindex: ['t_id'] }], await openRun(test.db, `reindex ${++jobs}`)))['reindex t_id']

  it.each([
    ['snapshot', 't_id_ccnew invalid'],
    ['reader', 't_id_ccold invalid'],
  ] as const)('by the server while it waits for a %s is cleaned up by the next run', async (kind, left) => {
    const other = await obstacle(kind)
    const rebuilding = (await connect()).query('reindex index concurrently t_id').catch((error: { code?: string }) => error.code)
    await waitFor(phase[kind])
    await test.db.query(`select pg_terminate_backend(pid) from ${builds}`)
    expect(await rebuilding).toBe('57P01')
    expect((await indexes()).sort()).toEqual(['t_id', left])
    await other.query('rollback')
    expect(await reindex()).toMatchObject({ indexes: 1, leftoversDropped: 1 })
    expect(await indexes()).toEqual(['t_id'])
  })

  it('with its worker goes on in the server: the next run waits for it, and then rebuilds once more', async () => {
    const other = await obstacle('snapshot')
    const killed = await connect()
    killed.query('reindex index concurrently t_id').catch(() => undefined)
    await waitFor(phase.snapshot)
    ;(killed as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy()
    expect(await indexes()).toEqual(['t_id', 't_id_ccnew invalid'])
    const next = reindex()
    await expect
      .poll(
        () => test.db.query(`select 1 as waits from ${sessions} and query like 'drop index concurrently%' and wait_event_type = 'Lock'`),
        { timeout: 60_000 },
      )
      .toEqual([{ waits: 1 }])
    await other.query('rollback')
    expect(await next).toMatchObject({ indexes: 1 })
    expect(await indexes()).toEqual(['t_id'])
  })

  it('is not given up and begun again because somebody reads for long', async () => {
    const other = await obstacle('reader')
    const rebuilding = reindex()
    await waitFor(phase.reader)
    // Longer than the lock timeout of other statements.
    await expect
      .poll(
        () =>
          test.db.query(
            `select count(*)::int as n from ${sessions} and query like 'reindex index concurrently%' and clock_timestamp() - query_start > interval '2.5 seconds'`,
          ),
        { timeout: 60_000 },
      )
      .toEqual([{ n: 1 }])
    await other.query('rollback')
    expect(await rebuilding).toEqual({ indexes: 1, bytesBefore: expect.any(Number), bytesAfter: expect.any(Number) })
  })

  it('by its budget is cleaned up when nobody is in the way any more', async () => {
    const other = await obstacle('reader')
    const ctx = testContext(test.db)
    const steps = [{ reindex: ['t_id'], budget: '1 second' }]
    const run = await openRun(test.db, 'short of time')
    await expect(runSteps(ctx, steps, run)).rejects.toMatchObject({
      code: 'timeout',
      detail: "reindex t_id was ended, because its step's budget was spent.",
    })
    await other.query('rollback')
    expect(await reindex()).toMatchObject({ indexes: 1 })
    expect(await indexes()).toEqual(['t_id'])
  })
})
