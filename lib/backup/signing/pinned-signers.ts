import type { Context } from '../../platform/context.ts'
import type { Queryable } from '../../platform/db.ts'
import { emitEvent } from '../../platform/outbox.ts'

export interface PinnedSigner {
  publicKey: string
  firstUsedAt: Date
  lastUsedAt: Date
}

/**
 * Notes in the database that `publicKey` signs its backups, so that it is known where ENCRYPTION_KEY is not, or another one by
 * now. A second key is told of in the outbox. Never a reason not to back up: without Caretaker's tables, or where they may
 * not be written, nothing happens.
 */
export async function pinSigner(ctx: Pick<Context, 'db' | 'log'>, publicKey: string): Promise<void> {
  try {
    if (!(await isThere(ctx.db))) return
    await ctx.db.transaction(async (tx) => {
      const [row] = await tx.query<{ added: boolean; others: boolean }>(
        `insert into caretaker.backup_signers as s (public_key) values ($1)
         on conflict (public_key) do update set last_used_at = greatest(s.last_used_at, now())
         returning xmax = 0 as added, exists (select from caretaker.backup_signers other where other.public_key <> $1) as others`,
        [publicKey],
      )
      if (row?.added === true && row.others) await emitEvent(tx, 'backup.signer_added', { publicKey })
    })
  } catch (error) {
    ctx.log.warn({ err: error }, 'the key that signs backups was not noted in the database')
  }
}

/** The keys that have signed backups of this database, the newest first; none where Caretaker's tables are not there. */
export async function pinnedSigners(db: Queryable): Promise<PinnedSigner[]> {
  if (!(await isThere(db))) return []
  return db.query<{ publicKey: string; firstUsedAt: Date; lastUsedAt: Date }>(
    `select public_key as "publicKey", first_used_at as "firstUsedAt", last_used_at as "lastUsedAt"
     from caretaker.backup_signers order by last_used_at desc, first_used_at desc`,
  )
}

async function isThere(db: Queryable): Promise<boolean> {
  const [table] = await db.query<{ there: boolean }>(`select to_regclass('caretaker.backup_signers') is not null as there`)
  return table?.there === true
}
