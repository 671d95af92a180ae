import type { Context } from '../../platform/context.ts'
import type { Queryable } from '../../platform/db.ts'
import { CaretakerError } from '../../platform/errors.ts'
import type { ErasedRows } from './erase-rows.ts'
import type { ProcessorOutcome } from './processors.ts'
import type { Residue, ResidueSoFar } from './residue.ts'

/** How far an erasure is: `gdpr_requests.checkpoint` while it runs. No personal data beside the keyed hashes and what is sealed. */
export interface Progress {
  tags: string[]
  rows?: ErasedRows
  files?: number
  authUser?: 'deleted' | 'absent' | 'not-applicable'
  exports?: number
  /** What the processors know the person by, sealed with the field key until all of them have answered. */
  person?: string
  processors?: Record<string, ProcessorOutcome>
  /** Rows outside of the map that named the person, by what holds them. */
  elsewhere?: Record<string, number>
  /** What of that could not be searched, in sentences. */
  elsewhereNotReached?: string[]
  mentions?: Record<string, number>
  residue?: Residue | null
  residueSoFar?: ResidueSoFar
  tombstone?: string | null
}

/** The invocation ends soon. What is done is noted, and the next one goes on from there. */
export class HandOver extends Error {
  override readonly name = 'HandOver'
}

export interface OpenErasure {
  id: string
  /** The person's id, kept until the request ends. */
  subject: string
  receivedAt: Date
  progress: Progress
}

/** The open erasure under any of these hashes. */
export async function findOpenErasure(db: Queryable, tags: readonly string[]): Promise<OpenErasure | undefined> {
  const [row] = await db.query<OpenErasure & Record<string, unknown>>(
    `select id, subject, received_at as "receivedAt", checkpoint as progress from caretaker.gdpr_requests
     where kind = 'erase' and state in ('received', 'verified', 'in_progress', 'waiting') and subject is not null
       and (subject_hash = any($1::text[]) or checkpoint -> 'tags' ?| $1::text[])
     order by received_at limit 1`,
    [tags],
  )
  return row
}

/** The last finished erasure under any of these hashes. */
export async function findFinishedErasure(
  db: Queryable,
  tags: readonly string[],
): Promise<{ id: string; finishedAt: Date; receipt: unknown } | undefined> {
  const [row] = await db.query<{ id: string; finishedAt: Date; receipt: unknown }>(
    `select id, finished_at as "finishedAt", receipt from caretaker.gdpr_requests
     where kind = 'erase' and state = 'done' and (subject_hash = any($1::text[]) or checkpoint -> 'tags' ?| $1::text[])
     order by finished_at desc limit 1`,
    [tags],
  )
  return row
}

/**
 * Stores the progress of a running request: with a transaction, together with the work it speaks of.
 * @throws {CaretakerError} `conflict` when the request has ended or was refused meanwhile
 */
export async function saveProgress(db: Queryable, requestId: string, progress: Progress): Promise<void> {
  const changed = await db.execute(
    `update caretaker.gdpr_requests set state = 'in_progress', reason = null, checkpoint = $2::jsonb
     where id = $1::uuid and state in ('received', 'verified', 'in_progress', 'waiting')`,
    [requestId, JSON.stringify(progress)],
  )
  if (changed !== 1) throw new CaretakerError('conflict', 'The request has ended meanwhile; nothing was changed.')
}

/** Notes why a request cannot go on. It stays open, and the next attempt starts where this one stopped. */
export async function noteWaiting(ctx: Pick<Context, 'db'>, requestId: string, reason: string): Promise<void> {
  await ctx.db.execute(
    `update caretaker.gdpr_requests set state = 'waiting', reason = $2 where id = $1::uuid and state in ('received', 'verified', 'in_progress', 'waiting')`,
    [requestId, reason],
  )
}

/** Adds the counts of a further pass to those of the passes before. */
export function addRows(before: ErasedRows | undefined, now: ErasedRows): ErasedRows {
  if (before === undefined) return now
  const sum = (a: Record<string, number>, b: Record<string, number>) => {
    const total = { ...a }
    for (const [key, rows] of Object.entries(b)) total[key] = (total[key] ?? 0) + rows
    return total
  }
  const kept = { ...before.kept }
  for (const [table, entry] of Object.entries(now.kept)) kept[table] = { ...entry, rows: (kept[table]?.rows ?? 0) + entry.rows }
  return {
    deleted: sum(before.deleted, now.deleted),
    anonymised: sum(before.anonymised, now.anonymised),
    kept,
    cut: sum(before.cut, now.cut),
  }
}
