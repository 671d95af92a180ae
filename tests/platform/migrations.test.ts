import { describe, expect, it } from 'vitest'
import { openDatabase } from '../../lib/platform/db.ts'
import { applyMigrations, listMigrations } from '../../lib/platform/migrations.ts'
import { useTestDatabase } from '../support/database.ts'

describe('listMigrations', () => {
  it('lists them oldest first, each version once', async () => {
    const versions = (await listMigrations()).map((migration) => migration.version)
    expect(versions.length).toBeGreaterThan(0)
    expect(versions).toEqual([...new Set(versions)].sort())
  })
})

describe('applyMigrations', () => {
  const test = useTestDatabase({ template: 'template0' })

  it('applies each once, also when two deploys begin together, and records them as the Supabase CLI does', async () => {
    const all = (await listMigrations()).map((migration) => migration.version)
    const other = openDatabase({ sessionUrl: test.url })
    const applied = await Promise.all([applyMigrations(test.db), applyMigrations(other)])
    await other.close()
    expect(applied.flat().sort()).toEqual(all)
    expect(applied.map((versions) => versions.length).sort((a, b) => a - b)).toEqual([0, all.length])
    const recorded = await test.db.query(
      'select version, name, cardinality(statements) as statements from supabase_migrations.schema_migrations order by version',
    )
    expect(recorded).toEqual((await listMigrations()).map(({ version, name }) => ({ version, name, statements: 1 })))
    expect(await applyMigrations(test.db)).toEqual([])
  })

  it('leaves every table of Caretaker closed to everyone but its owner and the service role', async () => {
    const open = await test.db.query(
      `select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
       where n.nspname = 'caretaker' and c.relkind in ('r', 'p') and not c.relrowsecurity`,
    )
    expect(open).toEqual([])
    expect(
      await test.db.query(
        `select policyname from pg_policies where schemaname = 'caretaker' and roles && array['anon', 'authenticated', 'public']::name[]`,
      ),
    ).toEqual([])
  })
})
