import { expect, test } from 'vitest'
import { runPgDump } from '../../../lib/backup/pg-dump/run-pg-dump.ts'
import { useTestDatabase } from '../../support/database.ts'

const source = useTestDatabase({ template: 'template0' })

function dump(...runs: string[][]): Promise<string[]> {
  return runPgDump({ databaseUrl: source.url, runs, signal: new AbortController().signal })
}

test('more tables than one message of libpq names: all of them come', { timeout: 60_000 }, async () => {
  // pg_dump locks all of them in one statement, of 40 KB here. libpq sends that in two pieces.
  const names = Array.from({ length: 500 }, (_, number) => `${'a_rather_long_name_of_a_table_'.repeat(2)}${number}`)
  await source.db.execute(names.map((name) => `create table ${name} (id int primary key)`).join(';'))
  const [before = '', after = ''] = await dump(['--section=pre-data'], ['--section=post-data'])
  expect(before.match(/^CREATE TABLE /gm)).toHaveLength(500)
  expect(after.match(/ PRIMARY KEY /g)).toHaveLength(500)
})

test('what pg_dump complains of is passed on', async () => {
  await expect(dump(['--section=nonsense'])).rejects.toMatchObject({
    code: 'backup_incomplete',
    detail: expect.stringMatching(/^The schema could not be read: pg_dump: error: .*nonsense/),
  })
})
