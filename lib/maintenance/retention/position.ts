import { createHash } from 'node:crypto'
import type { RetentionRule } from '../../config/index.ts'
import type { Queryable } from '../../platform/db.ts'
import type { Cursor } from './walk.ts'

/** How far a rule is in its tables, in the order of their names. */
export interface Position {
  /** The last physical table that is finished. */
  finished: string | null
  cursor: Cursor | null
}

/** What names a rule across deployments: one that is changed is another. */
export function digestOf(rule: RetentionRule): string {
  return createHash('sha256').update(JSON.stringify(rule)).digest('hex').slice(0, 16)
}

/** Where an earlier run left off; null when it came to the end. */
export async function loadPosition(db: Queryable, digest: string): Promise<Position | null> {
  const [row] = await db.query<{ position: Position }>('select position from caretaker.retention_positions where digest = $1', [digest])
  return row?.position ?? null
}

/** Stores where a run left off and why, or (null) that it came to the end. */
export async function savePosition(
  db: Queryable,
  digest: string,
  rule: string,
  left: { position: Position; reason: string } | null,
): Promise<void> {
  if (left === null) await db.execute('delete from caretaker.retention_positions where digest = $1', [digest])
  else
    await db.execute(
      `insert into caretaker.retention_positions (digest, rule, position, reason) values ($1, $2, $3::jsonb, $4)
       on conflict (digest) do update set position = excluded.position, reason = excluded.reason, updated_at = now()`,
      [digest, rule, JSON.stringify(left.position), left.reason],
    )
}
