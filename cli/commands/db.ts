import { applyMigrations, listMigrations } from '../../lib/platform/migrations.ts'
import type { Command } from '../command.ts'
import { duration } from '../output.ts'

const migrate: Command = {
  name: 'db migrate',
  summary: "Make or update Caretaker's tables (schema caretaker) in the database",
  async run({ context, out }) {
    const ctx = await context()
    const applied = await applyMigrations(ctx.db)
    const all = await listMigrations()
    const human = applied.length === 0 ? `Nothing to do: all ${all.length} migrations are applied.` : `Applied ${applied.join(', ')}.`
    out.result({ applied, total: all.length }, human)
  },
}

const ping: Command = {
  name: 'db ping',
  summary: 'Say whether the database answers, how fast, and which version it is',
  async run({ context, out }) {
    const ctx = await context()
    const started = ctx.clock.monotonicMs()
    const [row] = await ctx.db.query<{ version: string; database: string; user: string }>(
      `select current_setting('server_version') as version, current_database() as database, current_user as user`,
    )
    const ms = ctx.clock.monotonicMs() - started
    out.result(
      { ...row, ms: Math.round(ms * 10) / 10 },
      `PostgreSQL ${row?.version} answers as "${row?.user}" on "${row?.database}" in ${duration(ms)}.`,
    )
  },
}

export const commands: Command[] = [migrate, ping]
