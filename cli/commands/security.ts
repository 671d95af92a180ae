import { type AuditRow, readAudit, verifyAudit } from '../../lib/platform/audit.ts'
import { CaretakerError } from '../../lib/platform/errors.ts'
import type { Command } from '../command.ts'

const report: Command = {
  name: 'security report',
  summary: 'Verify the chain of the audit trail; list tables without row level security, the operator keys, and who touched personal data',
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
    const [gdpr] = await ctx.db.query<{ open: number; overdue: number; done: number; refused: number }>(
      `select (count(*) filter (where state in ('received', 'verified', 'in_progress', 'waiting')))::int as open,
         (count(*) filter (where state in ('received', 'verified', 'in_progress', 'waiting') and due_at < now()))::int as overdue,
         (count(*) filter (where state = 'done'))::int as done, (count(*) filter (where state = 'refused'))::int as refused
       from caretaker.gdpr_requests`,
    )
    const personalData = await ctx.db.query<{ action: string; times: number }>(
      `select action, count(*)::int as times from caretaker.audit
       where action ~ '^(gdpr|consent)\\.' and at > now() - interval '30 days' group by 1 order by 1`,
    )
    const chain =
      audit.brokenAt === null
        ? `The audit trail is whole: ${audit.rows} rows, each follows from the one before.`
        : `THE AUDIT TRAIL IS BROKEN at row ${audit.brokenAt}: it was changed, or a row was removed.`
    const rls =
      withoutRls.length === 0
        ? 'Row level security is on for every table in public and caretaker.'
        : `Without row level security: ${withoutRls.map((row) => row.table).join(', ')}.`
    const requests = `Requests of people: ${gdpr?.open} open, ${gdpr?.overdue} of them overdue; ${gdpr?.done} done, ${gdpr?.refused} refused.`
    const touched =
      personalData.length === 0
        ? 'Nobody touched personal data through Caretaker in 30 days.'
        : `Personal data in 30 days: ${personalData.map(({ action, times }) => `${action} ${times}×`).join(', ')}.`
    out.result(
      { audit, withoutRls: withoutRls.map((row) => row.table), keys, gdpr: { ...gdpr, last30Days: personalData } },
      [chain, rls, `${keys.length} operator keys.`, requests, touched].join('\n'),
    )
    if (audit.brokenAt !== null) process.exitCode = 1
  },
}

const audit: Command = {
  name: 'security audit',
  usage: '[--since TIME] [--action PREFIX]',
  summary: 'The audit trail, a JSON line a row, for another system to keep; fails where its chain is broken',
  options: {
    since: { type: 'string', value: 'TIME', about: 'such as 2026-11-01, in UTC; everything unless given' },
    action: { type: 'string', value: 'PREFIX', about: 'such as gdpr; every action unless given' },
  },
  async run({ flags, context, out }) {
    const since = typeof flags.since === 'string' ? new Date(flags.since) : new Date(0)
    if (Number.isNaN(since.getTime()))
      throw new CaretakerError(
        'bad_request',
        `--since: found "${String(flags.since).slice(0, 40)}", expected a time such as 2026-11-01T12:00:00Z.`,
      )
    const ctx = await context()
    const verdict = await verifyAudit(ctx.db)
    const rows: AuditRow[] = []
    for await (const row of readAudit(ctx.db, { since, ...(typeof flags.action === 'string' ? { action: flags.action } : {}) }))
      rows.push(row)
    out.result(rows, rows.length === 0 ? 'Nothing was written in that time.' : rows.map((row) => JSON.stringify(row)).join('\n'))
    if (verdict.brokenAt === null) return
    out.progress(`The audit trail is broken at row ${verdict.brokenAt}: it was changed, or a row was removed.`)
    process.exitCode = 1
  },
}

export const commands: Command[] = [report, audit]
