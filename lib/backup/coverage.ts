import type { Queryable } from '../platform/db.ts'

/** What it would cost if the database died now. */
export interface Loss {
  /** The newest moment that backups and increments bring back; null where there is no backup to count on. */
  coveredUntil: string | null
  /** What was committed in so long would be lost (RPO), ms. */
  lostMs: number | null
  /** How long until the database is open again (RTO), ms: as the last proven drill took, in proportion to the size. null before there was one. */
  openAgainMs: number | null
  /** When that drill was. */
  drilledAt: string | null
}

/** Writes down what a loss would cost, also that there is nothing to count on any more; nothing where Caretaker's tables are not there. */
export async function saveCoverage(db: Queryable, loss: Loss): Promise<void> {
  if (!(await isThere(db))) return
  if (loss.coveredUntil === null) {
    await db.execute('delete from caretaker.backup_coverage')
    return
  }
  await db.execute(
    `insert into caretaker.backup_coverage (covered_until, open_again_ms, drilled_at) values ($1::timestamptz, $2::int8, $3::timestamptz)
     on conflict (only_row) do update set covered_until = excluded.covered_until, open_again_ms = excluded.open_again_ms, drilled_at = excluded.drilled_at, noted_at = now()`,
    [loss.coveredUntil, loss.openAgainMs, loss.drilledAt],
  )
}

/** The same as of `now`: what was written down last, and older by the time since. Null where there is no backup to count on. */
export async function readCoverage(db: Queryable, now: Date): Promise<Loss | null> {
  if (!(await isThere(db))) return null
  const [row] = await db.query<{ coveredUntil: Date; openAgainMs: number | null; drilledAt: Date | null }>(
    `select covered_until as "coveredUntil", open_again_ms::float8 as "openAgainMs", drilled_at as "drilledAt" from caretaker.backup_coverage`,
  )
  if (row === undefined) return null
  return {
    coveredUntil: row.coveredUntil.toISOString(),
    lostMs: Math.max(0, now.getTime() - row.coveredUntil.getTime()),
    openAgainMs: row.openAgainMs,
    drilledAt: row.drilledAt?.toISOString() ?? null,
  }
}

async function isThere(db: Queryable): Promise<boolean> {
  const [table] = await db.query<{ there: boolean }>(`select to_regclass('caretaker.backup_coverage') is not null as there`)
  return table?.there === true
}
