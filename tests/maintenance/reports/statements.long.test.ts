import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { reportDatabase } from '../../../lib/maintenance/index.ts'
import { type Database, openDatabase } from '../../../lib/platform/db.ts'
import { type LocalPostgres, startPostgres } from '../../../local/postgres.ts'
import { testContext } from '../../support/context.ts'

describe('slow statements', () => {
  let directory: string
  let server: LocalPostgres
  let db: Database

  const slow = async (on: Database = db) => {
    const { sections } = await reportDatabase(testContext(on))
    return sections.find((section) => section.name === 'slow-queries')
  }
  const restart = async (settings: Record<string, string>) => {
    await db?.close()
    await server?.stop()
    server = await startPostgres({ directory, settings: { fsync: 'off', ...settings } })
    db = openDatabase({ sessionUrl: server.url(), maxConnections: 3 })
  }

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'caretaker-statements-'))
    await restart({})
  })
  afterAll(async () => {
    await db.close()
    await server.stop()
    await rm(directory, { recursive: true, force: true })
  })

  it('are read where pg_stat_statements is, and asked for where it is not', async () => {
    expect(await slow()).toMatchObject({ findings: [], note: expect.stringContaining('create extension pg_stat_statements') })
    await db.execute('create extension pg_stat_statements')
    expect(await slow()).toMatchObject({ findings: [], note: expect.stringContaining('add it to shared_preload_libraries') })

    await restart({ shared_preload_libraries: 'pg_stat_statements' })
    await db.execute('create table people (id int, email text)')
    for (let i = 0; i < 3; i++) await db.query(`select email from people where email = 'ada@example.org' and id in (1, 2, 3, ${i})`)
    // Utility statements are not normalised by every version: their literals are ours to hide.
    await db.execute(`create role ada login password 'hunter22'`)
    await db.execute(`do $$ begin perform 'hunter22'; end $$`)
    await db.execute(`comment on table people is 'hunter22'`)
    const section = await slow()
    expect(section?.note).toBeUndefined()
    const found = section?.findings.find((finding) => finding.object.startsWith('select email from people'))
    expect(found).toMatchObject({
      figures: { calls: 3, rows: 0, total_ms: expect.any(Number), query_id: expect.stringMatching(/^-?\d+$/) },
    })
    expect(section?.findings.some((finding) => finding.object.startsWith('create role ada'))).toBe(true)
    for (const secret of ['ada@example.org', 'hunter22']) expect(JSON.stringify(section)).not.toContain(secret)
  })

  it('of other roles are hidden from a role that may not see them, and the grant is named', async () => {
    await db.execute('grant usage on schema public to ada')
    const url = server.url().replace(/\/\/[^@]*@/, '//ada:hunter22@')
    const ada = openDatabase({ sessionUrl: url, maxConnections: 2 })
    try {
      const hidden = await slow(ada)
      expect(hidden?.note).toMatch(/^\d+ statements of other roles are hidden from this one: grant pg_read_all_stats to "ada"$/)
      expect(hidden?.findings.some((finding) => finding.object === 'of another role')).toBe(true)
      await db.execute('grant pg_read_all_stats to ada')
      expect((await slow(ada))?.note).toBeUndefined()
    } finally {
      await ada.close()
    }
  })

  it('are beside what keeps dead rows: transactions, prepared ones, slots', async () => {
    await restart({ shared_preload_libraries: 'pg_stat_statements', max_prepared_transactions: '2' })
    await db.execute('create table if not exists t (id int)')
    await db.query(`select pg_create_logical_replication_slot('unread', 'test_decoding')`)
    try {
      await db.session(async (session) => {
        await session.execute('begin')
        await session.execute('insert into t values (1)')
        await session.execute(`prepare transaction 'forgotten'`)
      })
      const { sections } = await reportDatabase(testContext(db))
      const found = sections.find((section) => section.name === 'long-transactions')
      expect(found?.findings.map(({ object, advice }) => [object.replace(/\d+/, 'N'), advice])).toEqual([
        ['prepared N', 'end it: rollback prepared, by its name in pg_prepared_xacts'],
        ['slot unread', 'nobody reads it: start its reader, or drop it with pg_drop_replication_slot'],
      ])
    } finally {
      await db.execute(`rollback prepared 'forgotten'`)
      await db.query(`select pg_drop_replication_slot('unread')`)
    }
  })
})
