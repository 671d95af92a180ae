import type { Context } from '../../platform/context.ts'
import type { Session } from '../../platform/db.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { backupPolicy } from '../policy.ts'
import { pinSession, serverVersion, withSessions } from '../sessions.ts'
import { sourceScope } from '../supabase.ts'
import { dropScheduledStreams, dropStreams, openStream, takeLock } from './open-stream.ts'
import { slotPrefix } from './stream.ts'

export interface OpenedIncrements {
  on: boolean
  /** Why not, where they are off. */
  reason: string | null
}

/**
 * Makes the slot where there is none, before the snapshot of a full backup is taken: whatever commits later is then in one
 * or the other. Without `backup.increments` drops the slot that was made for it. Never keeps a backup from being made.
 */
export async function openIncrements(ctx: Context): Promise<OpenedIncrements> {
  try {
    if (ctx.config.backup?.increments === undefined) return await closeIncrements(ctx)
    return await withSession(ctx, async (session) => {
      // Somebody who reads an increment now has made the slot first.
      if (!(await takeLock(session))) return { on: true, reason: null }
      const scope = await sourceScope(session, { excludeSchemas: backupPolicy(ctx).excludeSchemas })
      const opened = await openStream(ctx, await ctx.objects(), session, scope)
      if (!opened.on) ctx.log.warn({ reason: opened.reason }, 'increments are off')
      return { on: opened.on, reason: opened.on ? null : opened.reason }
    })
  } catch (error) {
    ctx.log.error({ err: error }, 'increments could not be opened')
    return { on: false, reason: error instanceof CaretakerError ? error.detail : 'The slot could not be made; the log has the cause.' }
  }
}

/**
 * The policy has no increments, or no longer: the slot that it had made would keep log for nobody until the disk is full. A slot that a
 * person made with `caretaker backup increment` is theirs to drop.
 */
async function closeIncrements(ctx: Context): Promise<OpenedIncrements> {
  const off = { on: false, reason: 'The policy has no backup.increments.' }
  const [slot] = await ctx.db.query(
    `select from pg_catalog.pg_replication_slots where slot_type = 'logical' and database = current_database() and starts_with(slot_name::text, $1) limit 1`,
    [slotPrefix],
  )
  if (slot === undefined) return off
  const dropped = await withSession(ctx, async (session) =>
    (await takeLock(session)) ? dropScheduledStreams(ctx, await ctx.objects(), session) : [],
  )
  if (dropped.length === 0) return off
  ctx.log.warn({ dropped }, 'increments are off in the policy: their slot was dropped')
  return { ...off, reason: `${off.reason} Slot ${dropped.join(', ')}, which it had before, was dropped.` }
}

export interface StoppedIncrements {
  /** Names of the slots that were dropped. */
  dropped: string[]
}

/** Drops the slot, so that the server keeps no log for it any more. What is stored stays, and can be restored. */
export async function stopIncrements(ctx: Context): Promise<StoppedIncrements> {
  return withSession(ctx, async (session) => ({ dropped: await dropStreams(ctx, await ctx.objects(), session) }))
}

function withSession<T>(ctx: Context, work: (session: Session) => Promise<T>): Promise<T> {
  return withSessions(ctx.db.sessionUrl, ctx.env.DATABASE_CA, 1, async ([session]) => {
    if (session === undefined) throw new CaretakerError('internal', 'A connection is needed.')
    await pinSession(session, (await serverVersion(session)).number, { lockTimeoutMs: 30_000 })
    return work(session)
  })
}
