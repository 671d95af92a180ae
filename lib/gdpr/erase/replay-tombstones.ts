import type { Context } from '../../platform/context.ts'
import type { Transaction } from '../../platform/db.ts'
import { requireEnv } from '../../platform/env.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { readSubjectMap, requirePolicy } from '../policy.ts'
import { identifyPerson, processorsOf } from '../processors/index.ts'
import { isInstalled } from '../requests/request.ts'
import { findSubject } from '../subject.ts'
import { eraseRows } from './erase-rows.ts'
import type { Elsewhere } from './erase-subject.ts'
import { identifiersOf } from './identifiers.ts'
import { pseudonymKey } from './receipt.ts'
import { eraseMentions } from './residue.ts'
import { retrying } from './retry.ts'
import { findErased, readTombstones, type Tombstone } from './tombstone.ts'

/**
 * Erases from `ctx.db` (a restored database that is not open yet) everybody who has been erased since: their rows, what
 * `elsewhere` holds of them, and mentions of them. Files, Auth and processors were done the first time. Repeating it finds nothing more to do.
 * @returns how many people were erased again
 */
export async function replayTombstones(
  ctx: Context,
  elsewhere: readonly Elsewhere[] = [],
): Promise<{ tombstones: number; erased: number }> {
  const objects = await ctx.objects()
  const tombstones = await readTombstones(objects)
  if (tombstones.length === 0) return { tombstones: 0, erased: 0 }
  const key = requireEnv(ctx.env, 'ENCRYPTION_KEY', 'Erasing again who was erased after the backup')
  const map = await readSubjectMap(ctx)
  const installed = await isInstalled(ctx.db)
  const people = await findErased(ctx.db, map, key, tombstones)
  for (const { id, tombstone } of people) {
    if (ctx.signal.aborted)
      throw new CaretakerError('timeout', 'Stopped while erasures were replayed; run it again before the database is opened.')
    const subject = (await findSubject(ctx.db, map, id)) ?? { id, email: undefined }
    const identifiers = await ctx.db.transaction(
      async (tx) =>
        identifiersOf(tx, map, requirePolicy(ctx), subject, await identifyPerson(tx, map, subject, processorsOf(requirePolicy(ctx)))),
      { isolation: 'repeatable read', readOnly: true },
    )
    // Before the rows: afterwards nothing would tell whom to look for, if this were stopped in between.
    if (installed) for (const { forget } of elsewhere) await forget(ctx, identifiers)
    await eraseMentions(ctx, identifiers)
    await retrying(ctx, () =>
      ctx.db.transaction(
        async (tx) => {
          // The record of the first time is younger than the backup; what is kept hangs from it, and ends when it would have.
          const requestId = installed ? await recordedAgain(tx, tombstone) : undefined
          await eraseRows(tx, map, id, {
            leaveTo: new Set(),
            requestId,
            now: new Date(tombstone.erasedAt),
            pseudonymKey: pseudonymKey(key),
            onTable: () => undefined,
          })
        },
        { lockTimeoutMs: 5_000 },
      ),
    )
  }
  return { tombstones: tombstones.length, erased: people.length }
}

async function recordedAgain(tx: Transaction, { subject, names = [], erasedAt }: Tombstone): Promise<string | undefined> {
  const [row] = await tx.query<{ id: string }>(
    `insert into caretaker.gdpr_requests (kind, state, subject_hash, requested_by, received_at, due_at, finished_at, checkpoint, receipt)
     values ('erase', 'done', $1, '{"type":"system"}', $2::timestamptz, $2::timestamptz, $2::timestamptz, $3::jsonb, '{"replayed": true}') returning id`,
    [subject, erasedAt, JSON.stringify({ tags: [subject, ...names] })],
  )
  return row?.id
}
