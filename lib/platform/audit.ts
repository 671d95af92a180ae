import { createHash } from 'node:crypto'
import type { Actor } from './actor.ts'
import type { Clock } from './clock.ts'
import type { Queryable, Transaction } from './db.ts'

export interface AuditEntry {
  /** What was done, as `domain.verb`: `gdpr.erased`, `backup.completed`. */
  action: string
  /** To what: a table, a backup id, a keyed hash of a person. Never personal data. */
  target: string
  detail?: Record<string, unknown>
}

const genesis = Buffer.alloc(32)

/**
 * Appends to the audit trail inside the caller's transaction, so that the change and its record stand or fall together.
 * Each row's hash covers the row before. Append last: the chain's lock is held until the transaction ends.
 */
export async function appendAudit(tx: Transaction, by: { actor: Actor; clock: Clock }, entry: AuditEntry): Promise<void> {
  // Two appends at once would both follow the same row; the lock makes the chain a line.
  await tx.query(`select pg_advisory_xact_lock(hashtextextended('caretaker:audit', 0))`)
  const [last] = await tx.query<{ seq: string; hash: Buffer }>('select seq, hash from caretaker.audit order by seq desc limit 1')
  const seq = Number(last?.seq ?? 0) + 1
  const previous = last?.hash ?? genesis
  const at = by.clock.now()
  const row = { seq, at, actor: by.actor, ...entry, detail: entry.detail ?? {} }
  await tx.execute(
    `insert into caretaker.audit (seq, at, actor, action, target, detail, previous_hash, hash)
     values ($1::bigint, $2::timestamptz, $3::jsonb, $4, $5, $6::jsonb, $7::bytea, $8::bytea)`,
    [seq, at, JSON.stringify(by.actor), entry.action, entry.target, JSON.stringify(row.detail), previous, auditHash(row, previous)],
  )
}

export interface AuditVerdict {
  rows: number
  /** The first row that does not follow from the one before, or null. */
  brokenAt: number | null
}

/** Walks the chain. Finds a changed, removed or inserted row; a cut-off tail shows only against a head noted elsewhere. */
export async function verifyAudit(db: Queryable): Promise<AuditVerdict> {
  let previous: Buffer = genesis
  let rows = 0
  for (;;) {
    const page = await db.query<StoredRow>(
      `select seq::float8 as seq, at, actor, action, target, detail, previous_hash, hash
       from caretaker.audit where seq > $1::bigint order by audit.seq limit 1000`,
      [rows],
    )
    for (const row of page) {
      const follows = row.seq === rows + 1 && row.previous_hash.equals(previous) && row.hash.equals(auditHash(row, previous))
      if (!follows) return { rows, brokenAt: rows + 1 }
      previous = row.hash
      rows++
    }
    if (page.length < 1000) return { rows, brokenAt: null }
  }
}

/** One row of the trail, as it is given to others; `hash` in hexadecimal. */
export interface AuditRow {
  seq: number
  at: Date
  actor: unknown
  action: string
  target: string
  detail: unknown
  hash: string
}

/** The rows since `since`, oldest first, whose action begins with `action` (`gdpr` finds `gdpr.erased`). */
export async function* readAudit(db: Queryable, { since, action }: { since: Date; action?: string }): AsyncGenerator<AuditRow> {
  for (let after = 0; ; ) {
    const page = await db.query<AuditRow & Record<string, unknown>>(
      `select seq::float8 as seq, at, actor, action, target, detail, encode(hash, 'hex') as hash from caretaker.audit
       where seq > $1::bigint and at >= $2::timestamptz and ($3::text is null or action = $3 or action like replace(replace($3, '_', '\\_'), '%', '\\%') || '.%')
       order by audit.seq limit 1000`,
      [after, since, action ?? null],
    )
    yield* page
    if (page.length < 1000) return
    after = page.at(-1)?.seq ?? after
  }
}

interface StoredRow extends Record<string, unknown> {
  seq: number
  at: Date
  actor: unknown
  action: string
  target: string
  detail: unknown
  previous_hash: Buffer
  hash: Buffer
}

function auditHash(row: Pick<StoredRow, 'seq' | 'at' | 'actor' | 'action' | 'target' | 'detail'>, previous: Buffer): Buffer {
  const body = canonicalJson([row.seq, row.at.toISOString(), row.actor, row.action, row.target, row.detail])
  return createHash('sha256').update(previous).update(body).digest()
}

/** JSON with sorted keys: the same value always has the same text, whatever jsonb did to the order of its keys. */
export function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) => {
    if (typeof inner !== 'object' || inner === null || Array.isArray(inner)) return inner
    return Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
  })
}

/** The newest rows, or those before `before`, whose action begins with `action`; for pages. */
export function listAudit(
  db: Queryable,
  { before, action, limit }: { before?: number; action?: string; limit: number },
): Promise<AuditRow[]> {
  return db.query<AuditRow & Record<string, unknown>>(
    `select seq::float8 as seq, at, actor, action, target, detail, encode(hash, 'hex') as hash from caretaker.audit
     where ($1::bigint is null or seq < $1::bigint) and ($2::text is null or starts_with(action, $2::text)) order by audit.seq desc limit $3::int`,
    [before ?? null, action ?? null, limit],
  )
}
