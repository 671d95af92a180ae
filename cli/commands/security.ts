import { verifyAudit } from '../../lib/platform/audit.ts'
import type { Command } from '../command.ts'

const report: Command = {
  name: 'security report',
  summary: 'Verify the chain of the audit trail, and list tables without row level security and the operator keys',
  async run({ context, out }) {
    const ctx = await context()
    const audit = await verifyAudit(ctx.db)
    const keys = await ctx.db.query(
      'select id::text, name, role, created_at, last_used_at, expires_at, revoked_at from caretaker.api_keys order by created_at',
    )
    const withoutRls = await ctx.db.query<{ table: string }>(
      `select format('%I.%I', schemaname, tablename) as "table" from pg_tables
       where not rowsecurity and schemaname in ('public', 'caretaker') order by 1`,
    )
    const chain =
      audit.brokenAt === null
        ? `The audit trail is whole: ${audit.rows} rows, each follows from the one before.`
        : `THE AUDIT TRAIL IS BROKEN at row ${audit.brokenAt}: it was changed, or a row was removed.`
    const rls =
      withoutRls.length === 0
        ? 'Row level security is on for every table in public and caretaker.'
        : `Without row level security: ${withoutRls.map((row) => row.table).join(', ')}.`
    out.result({ audit, withoutRls: withoutRls.map((row) => row.table), keys }, `${chain}\n${rls}\n${keys.length} operator keys.`)
    if (audit.brokenAt !== null) process.exitCode = 1
  },
}

export const commands: Command[] = [report]
