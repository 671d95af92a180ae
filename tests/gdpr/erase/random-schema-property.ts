import { expect } from 'vitest'
import { defineConfig, type PolicyInput } from '../../../lib/config/index.ts'
import { eraseSubject, exportSubject, planSubjectErasure } from '../../../lib/gdpr/index.ts'
import type { Database } from '../../../lib/platform/db.ts'
import { hasCode } from '../../../lib/platform/errors.ts'
import { testContext } from '../../support/context.ts'
import fc from '../../support/fast-check.ts'
import { collect } from '../collect.ts'
import { unzip } from '../export/unzip.ts'
import { columnsOf, createRandomSchema, type RandomSchema, randomSchema, rowsPerTable, subjectRows, tableName } from '../random-schema.ts'

type Action = 'delete' | 'anonymise' | 'keep'
type TablePolicies = NonNullable<NonNullable<PolicyInput['gdpr']>['tables']>

async function survivors(db: Database, schema: RandomSchema): Promise<Map<string, Record<string, unknown>>> {
  const found = new Map<string, Record<string, unknown>>()
  for (const at of schema.tables.keys())
    for (const row of await db.query(`select * from ${tableName(schema, at)}`)) found.set(`${at}:${row.id as number}`, row)
  return found
}

function policies(schema: RandomSchema, actions: readonly Action[]): TablePolicies {
  const tables: TablePolicies = {}
  for (const [at, table] of schema.tables.entries()) {
    if (at === 0) continue
    const erase = {
      delete: 'delete',
      anonymise: { anonymise: ['about'] },
      keep: { keep: 'law', until: '1 year', anonymise: ['about'] },
    } as const
    tables[tableName(schema, at)] = {
      erase: erase[actions[at] ?? 'delete'] as 'delete',
      ...(table.link === null ? {} : { link: { column: 'about' } }),
    }
  }
  return tables
}

/**
 * In any schema, with any actions: the export holds exactly the subject's rows, the plan counts them, and after the erasure
 * every other row is as it was, but for references to rows that are gone. A refusal changes nothing, and the plan says why.
 */
export async function checkRandomSchemas(db: Database, numRuns: number): Promise<{ erased: number; refused: number }> {
  const seen = { erased: 0, refused: 0 }
  const action = fc.constantFrom<Action>('delete', 'delete', 'delete', 'anonymise', 'keep')
  await fc.assert(
    fc.asyncProperty(
      randomSchema,
      fc.integer({ min: 0, max: rowsPerTable - 1 }),
      fc.oneof(fc.constant<Action[]>([]), fc.array(action, { minLength: 7, maxLength: 7 })),
      async (schema, subject, actions) => {
        await db.execute('truncate caretaker.gdpr_requests cascade')
        await createRandomSchema(db, schema)
        const gdpr = { subject: { table: tableName(schema, 0) }, tables: policies(schema, actions) }
        const ctx = testContext(db, { config: defineConfig({ app: { name: 'Random' }, gdpr }) })
        const wanted = subjectRows(schema, subject)
        const stays = (row: string) => (actions[Number(row.split(':')[0])] ?? 'delete') !== 'delete' && !row.startsWith('0:')
        const deleted = new Set([...wanted].filter((row) => !stays(row)))
        const before = await survivors(db, schema)

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
          // Only when a row that stays cannot do without one that goes.
          expect(plan.blockers.length).toBeGreaterThan(0)
          expect(await survivors(db, schema)).toEqual(before)
          seen.refused++
          return
        }
        seen.erased++
        expect(plan.blockers).toEqual([])
        const after = await survivors(db, schema)
        expect([...after.keys()].sort()).toEqual([...before.keys()].filter((row) => !deleted.has(row)).sort())
        for (const [row, values] of after) {
          const [at, n] = row.split(':').map(Number)
          const original = { ...before.get(row) }
          for (const [number, ref] of schema.tables[at ?? 0]?.references.entries() ?? [])
            if (deleted.has(`${ref.to}:${ref.values[n ?? 0]}`)) for (const column of columnsOf(schema, ref, number)) original[column] = null
          if (wanted.has(row)) original.about = null
          expect(values, row).toEqual(original)
        }
        const kept = await db.query<{ table: string; id: number }>(
          `select table_name as "table", (row_key ->> 'id')::int as id from caretaker.gdpr_kept`,
        )
        const toKeep = [...wanted].filter((row) => actions[Number(row.split(':')[0])] === 'keep' && stays(row))
        expect(kept.map(({ table, id }) => `${table}:${id}`).sort()).toEqual(
          toKeep.map((row) => `${tableName(schema, Number(row.split(':')[0]))}:${row.split(':')[1]}`).sort(),
        )
      },
    ),
    { numRuns },
  )
  return seen
}
