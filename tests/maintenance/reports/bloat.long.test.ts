import { beforeAll, describe, expect, it } from 'vitest'
import { reportDatabase } from '../../../lib/maintenance/index.ts'
import { testContext } from '../../support/context.ts'
import { useTestDatabase } from '../../support/database.ts'

/** Tables of several shapes, half emptied in several ways; `pgstattuple` reads every page and knows. */
const shapes: Record<string, string> = {
  narrow: 'id int, flag boolean',
  wide: 'id int, a text, b text, c numeric, d timestamptz, e uuid',
  sparse: 'id int, a text, b int, c int, d int, e int, f int, g int, h int, i int, j text',
  documents: 'id int, body jsonb',
}
const fill: Record<string, string> = {
  narrow: 'n, n % 2 = 0',
  wide: `n, repeat('x', n % 80), md5(n::text), n * 1.25, now() - n * interval '1 minute', gen_random_uuid()`,
  sparse: `n, case when n % 5 = 0 then repeat('y', 40) end, null, n, null, null, null, null, null, n, case when n % 3 = 0 then 'z' end`,
  documents: `n, jsonb_build_object('n', n, 'tags', array[md5(n::text), repeat('t', n % 60)])`,
}

describe('the estimate of bloat', () => {
  const test = useTestDatabase()
  beforeAll(async () => {
    await test.db.execute('create extension pgstattuple')
    for (const [name, columns] of Object.entries(shapes)) {
      await test.db.execute(`create table ${name} (${columns}) with (autovacuum_enabled = false)`)
      await test.db.execute(`insert into ${name} select ${fill[name]} from generate_series(1, 50000) n`)
      await test.db.execute(`create index ${name}_id on ${name} (id)`)
    }
  })

  const estimate = async (section: string, object: string) =>
    Number(
      (await reportDatabase(testContext(test.db))).sections
        .find((one) => one.name === section)
        ?.findings.find((finding) => finding.object === object)?.figures.bloat_share,
    )

  it.each([
    ['nothing is gone', 'false', 0],
    ['every third row is gone', 'id % 3 = 0', 1 / 3],
    ['most rows are gone', 'id % 10 <> 0', 0.9],
  ])('is near what the pages hold when %s', async (_name, condition, gone) => {
    for (const name of Object.keys(shapes)) {
      await test.db.execute(`delete from ${name} where ${condition}`)
      await test.db.execute(`vacuum analyze ${name}`)
      const [exact] = await test.db.query<{ free: number }>(
        `select ((approx_free_percent + dead_tuple_percent) / 100)::float8 as free from pgstattuple_approx($1::regclass)`,
        [name],
      )
      const table = await estimate('tables', name)
      // What a rewrite would give back is a little more: deleted rows leave their line pointers.
      expect(Math.abs(table - (exact?.free ?? -1)), `${name}: estimated ${table}, measured ${exact?.free}`).toBeLessThan(0.12)
      const [index] = await test.db.query<{ density: number }>(`select avg_leaf_density::float8 as density from pgstatindex($1)`, [
        `${name}_id`,
      ])
      // Leaves are filled to 90 % when they are new: what is missing to that is bloat.
      const measured = Math.max(0, 1 - (index?.density ?? 0) / 90)
      const guessed = await estimate('index-bloat', `${name}_id`)
      expect(Math.abs(guessed - measured), `${name}_id: estimated ${guessed}, measured ${measured}`).toBeLessThan(0.1)
      expect(gone === 0 ? measured < 0.05 : measured > gone / 2).toBe(true)
    }
  })
})
