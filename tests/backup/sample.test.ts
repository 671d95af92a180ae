import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { backupDatabase, restoreBackup } from '../../lib/backup/index.ts'
import { defineConfig } from '../../lib/config/index.ts'
import { openObjectStore } from '../../lib/drivers/objects/index.ts'
import type { Database } from '../../lib/platform/db.ts'
import { testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'
import { contentsOf, schemaOf } from './state.ts'

const source = useTestDatabase({ template: 'template0' })
const target = useTestDatabase({ template: 'template0' })

test('a sample database comes back equal, in many small parts', async () => {
  await source.db.execute(await readFile(new URL('./sample.sql', import.meta.url), 'utf8'))
  const folder = await mkdtemp(join(tmpdir(), 'caretaker-sample-'))
  const ctx = testContext(source.db, {
    config: defineConfig({ app: { name: 'Sample' }, backup: { encryption: 'none' } }),
    objects: () => openObjectStore(`file://${folder}`, ctx.env),
  })
  try {
    await source.db.session((session) => session.execute('analyze'))
    const report = await backupDatabase(ctx, { partBytes: 65_536 })
    expect(report.objects).toBeGreaterThan(report.tables + 10)
    expect(await restoreBackup(ctx, { id: report.id, targetUrl: target.url })).toMatchObject({ rows: report.rows, skipped: [] })
    expect(await schemaOf(target.url)).toBe(await schemaOf(source.url))
    const before = await contentsOf(source.db)
    expect(await contentsOf(target.db)).toEqual(before)
    // Of indexes on expressions and of statistics objects, too.
    expect(await gatheredStatistics(target.db)).toEqual(await gatheredStatistics(source.db))
    expect(before['cinema.payments_2025_0']).toMatchObject({ rows: expect.toSatisfy((rows: number) => rows > 500) })
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
})

/** What ANALYZE knows of, as `table.what`. */
async function gatheredStatistics(db: Database): Promise<string[]> {
  const rows = await db.query<{ name: string }>(
    `select tablename || '.' || attname as name from pg_catalog.pg_stats where schemaname = 'cinema'
     union select s.stxname from pg_catalog.pg_statistic_ext s join pg_catalog.pg_statistic_ext_data d on d.stxoid = s.oid order by 1`,
  )
  return rows.map((row) => row.name)
}
