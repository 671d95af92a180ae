import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { backupDatabase, restoreBackup } from '../../lib/backup/index.ts'
import { defineConfig } from '../../lib/config/index.ts'
import { openObjectStore } from '../../lib/drivers/objects/index.ts'
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
    const report = await backupDatabase(ctx, { partBytes: 65_536 })
    expect(report.objects).toBeGreaterThan(report.tables + 10)
    expect(await restoreBackup(ctx, { id: report.id, targetUrl: target.url })).toMatchObject({ rows: report.rows, skipped: [] })
    expect(await schemaOf(target.url)).toBe(await schemaOf(source.url))
    const before = await contentsOf(source.db)
    expect(await contentsOf(target.db)).toEqual(before)
    expect(before['cinema.payments_2025_0']).toMatchObject({ rows: expect.toSatisfy((rows: number) => rows > 500) })
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
})
