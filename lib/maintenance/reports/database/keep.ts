import type { Context } from '../../../platform/context.ts'
import type { Counts, TaskProgress } from '../../../platform/task.ts'
import { reportDatabase } from './index.ts'

/** How long the rows of earlier reports stay. */
const keptFor = '400 days'

/**
 * Keeps the database's statistics as rows of `caretaker.database_findings`, those of one slot together; a repeated slot
 * replaces its own. Rows older than 400 days go.
 */
export async function keepDatabaseReport(ctx: Context, progress: TaskProgress): Promise<Counts> {
  const { sections } = await reportDatabase(ctx)
  const findings = sections.flatMap((section) =>
    section.findings.map((finding, position) => ({ section: section.name, position, ...finding, advice: finding.advice ?? null })),
  )
  const counts: Counts = { rows: findings.length, advised: findings.filter((finding) => finding.advice !== null).length }
  await ctx.db.transaction(
    async (tx) => {
      const { slot } = progress.run
      await tx.execute('delete from caretaker.database_findings where slot = $1::timestamptz or slot < now() - $2::interval', [
        slot,
        keptFor,
      ])
      await tx.execute(
        `insert into caretaker.database_findings (slot, section, position, object, figures, advice)
         select $1::timestamptz, f.section, f.position, f.object, f.figures, f.advice
         from jsonb_to_recordset($2::jsonb) as f(section text, position int, object text, figures jsonb, advice text)`,
        [slot, JSON.stringify(findings)],
      )
      await progress.finish(counts, tx)
    },
    { lockTimeoutMs: 2_000 },
  )
  return counts
}
