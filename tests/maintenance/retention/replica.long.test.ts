import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Database, openDatabase } from '../../../lib/platform/db.ts'
import { applyMigrations } from '../../../lib/platform/migrations.ts'
import { type LocalPostgres, startPostgres } from '../../../local/postgres.ts'
import { logLines } from '../../support/context.ts'
import { retentionRig } from './rig.ts'

describe('retention and a replica', () => {
  // A server of its own: a replica that is behind is behind for every database of a server.
  let server: LocalPostgres
  let directory: string
  let db: Database

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'caretaker-replica-'))
    server = await startPostgres({ directory })
    db = openDatabase({ sessionUrl: server.url(), maxConnections: 5 })
    await applyMigrations(db)
  })
  afterAll(async () => {
    await db.close()
    await server.stop()
    await rm(directory, { recursive: true, force: true })
  })

  it('waits for a replica that is behind', async () => {
    const test = { db, url: server.url(), name: 'postgres', drop: () => Promise.resolve() }
    const { strictPolicy, counts, count, sql } = retentionRig(test)
    const until = async (what: () => Promise<boolean>) => {
      while (!(await what())) await delay(10)
    }
    await sql(
      'create table logs (id bigint, at timestamptz)',
      `insert into logs select n, now() - interval '60 days' from generate_series(1, 5000) n`,
    )
    await test.db.execute(`select pg_create_logical_replication_slot('slow_replica', 'test_decoding')`)
    const replica = new pg.Client({ connectionString: test.url, replication: 'database' } as pg.ClientConfig)
    replica.on('error', () => undefined)
    await replica.connect()
    const connection = (
      replica as unknown as { connection: { on(event: string, heard: () => void): void; sendCopyFromChunk(chunk: Buffer): void } }
    ).connection
    const started = new Promise<void>((resolve) => connection.on('replicationStart', resolve))
    const streaming = replica.query(`START_REPLICATION SLOT slow_replica LOGICAL 0/0`).catch(() => undefined)
    await started
    try {
      const status = (lsn: bigint) => {
        const message = Buffer.alloc(34)
        message.write('r')
        for (const at of [1, 9, 17]) message.writeBigUInt64BE(lsn, at)
        connection.sendCopyFromChunk(message)
      }
      status(1n)
      await until(async () => (await count(`pg_stat_replication where replay_lsn = '0/1'`)) === 1)
      const ctx = strictPolicy([
        { table: 'logs', column: 'at', olderThan: '30 days', action: 'purge', limits: { maxShare: 1, replicaLag: '16 MB' } },
      ])
      const done = counts(ctx)
      await until(() => Promise.resolve(logLines(ctx).some((line) => line.includes('retention pauses'))))
      const [now] = await test.db.query<{ lsn: string }>(`select (pg_current_wal_lsn() - '0/0'::pg_lsn)::text as lsn`)
      status(BigInt(now?.lsn ?? 0))
      expect((await done)['purge logs']).toMatchObject({
        rows: 5_000,
        pausedFor: expect.stringMatching(/^a replica is \d+ MB behind \(limit 16 MB\)/),
      })
    } finally {
      await replica.end().catch(() => undefined)
      await streaming
      await until(async () => (await count(`pg_replication_slots where slot_name = 'slow_replica' and active`)) === 0)
      await test.db.execute(`select pg_drop_replication_slot('slow_replica')`)
    }
  })
})
