import fc from 'fast-check'
import { expect, it } from 'vitest'
import { defineConfig } from '../../../lib/config/index.ts'
import { eraseSubject, exportSubject, planSubjectErasure } from '../../../lib/gdpr/index.ts'
import { hasCode } from '../../../lib/platform/errors.ts'
import { testContext } from '../../support/context.ts'
import { useTestDatabase } from '../../support/database.ts'
import { collect } from '../collect.ts'
import { unzip } from '../export/unzip.ts'
import { columnsOf, createRandomSchema, type RandomSchema, randomSchema, rowsPerTable, subjectRows, tableName } from '../random-schema.ts'

const test = useTestDatabase()

async function survivors(schema: RandomSchema): Promise<Map<string, Record<string, unknown>>> {
  const found = new Map<string, Record<string, unknown>>()
  for (const at of schema.tables.keys()) for (const row of await test.db.query(`select * from ${tableName(schema, at)}`)) found.set(`${at}:${row.id as number}`, row)
  return found
}

it('leaves no residue and no collateral change in any schema, and exports what it erases', async () => {
  const seen = { erased: 0, refused: 0 }
  await fc.assert(
    fc.asyncProperty(randomSchema, fc.integer({ min: 0, max: rowsPerTable - 1 }), async (schema, subject) => {
      await test.db.execute('truncate caretaker.gdpr_requests cascade')
      await createRandomSchema(test.db, schema)
      const tables = Object.fromEntries(schema.tables.flatMap((table, at) => (table.link === null ? [] : [[tableName(schema, at), { link: { column: 'about' } }]])))
      const ctx = testContext(test.db, { config: defineConfig({ app: { name: 'Random' }, gdpr: { subject: { table: tableName(schema, 0) }, tables } }) })
      const wanted = subjectRows(schema, subject)
      const before = await survivors(schema)

      const archive = collect()
      await exportSubject(ctx, { subject: String(subject), out: archive.stream })
      const exported = new Set<string>()
      for (const [path, content] of await unzip(archive.bytes())) {
        const at = /^data\/r[ab]\.t(\d)\.json$/.exec(path)?.[1]
        if (at !== undefined) for (const row of JSON.parse(content.toString()) as { id: number }[]) exported.add(`${at}:${row.id}`)
      }
      expect([...exported].sort()).toEqual([...wanted].sort())

      const plan = await planSubjectErasure(ctx, { subject: String(subject) })
      if (plan.status !== 'planned') throw new Error('expected a plan')
      expect(plan.tables.reduce((sum, { rows }) => sum + rows, 0)).toBe(wanted.size)

      try {
        await eraseSubject(ctx, { subject: String(subject) })
      } catch (error) {
        if (!hasCode(error, 'policy_invalid')) throw error
        // Only when a row that is not the person's cannot do without one that is.
        expect(plan.blockers.length).toBeGreaterThan(0)
        expect(await survivors(schema)).toEqual(before)
        seen.refused++
        return
      }
      seen.erased++
      expect(plan.blockers).toEqual([])
      const after = await survivors(schema)
      expect([...after.keys()].sort()).toEqual([...before.keys()].filter((row) => !wanted.has(row)).sort())
      for (const [row, values] of after) {
        const table = schema.tables[Number(row.split(':')[0])]
        const original = { ...before.get(row) }
        for (const [n, ref] of table?.references.entries() ?? [])
          if (wanted.has(`${ref.to}:${ref.values[Number(row.split(':')[1])]}`)) for (const column of columnsOf(schema, ref, n)) original[column] = null
        expect(values, row).toEqual(original)
      }
    }),
    { numRuns: Number(process.env.GDPR_RUNS ?? 30), endOnFailure: false },
  )
  expect(seen.erased).toBeGreaterThan(seen.refused)
}, 600_000)
