import { migrationVersions } from '../../platform/migrations.ts'
import { type Checker, healthy, unhealthy } from '../checker.ts'

const shown = 20

/** Every migration of this release of Caretaker is applied: code that is ahead of its tables fails in odd places. */
export const migrations: Checker = async (ctx, _check, signal) => {
  const [found] = await ctx.db.probe<{ table: string | null }>(
    `select to_regclass('supabase_migrations.schema_migrations')::text as "table"`,
    [],
    signal,
  )
  const applied =
    found?.table == null
      ? []
      : await ctx.db.probe<{ version: string }>('select version from supabase_migrations.schema_migrations', [], signal)
  const done = new Set(applied.map(({ version }) => version))
  const pending = (await migrationVersions()).filter((version) => !done.has(version))
  return pending.length === 0
    ? healthy({ pending: 0 })
    : unhealthy('migrations_pending', { pending: pending.length, versions: pending.slice(0, shown) })
}
