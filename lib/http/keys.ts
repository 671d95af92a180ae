import { appendAudit } from '../platform/audit.ts'
import type { Context } from '../platform/context.ts'
import { CaretakerError } from '../platform/errors.ts'

export interface OperatorKey {
  id: string
  name: string
  role: string
  createdAt: Date
  lastUsedAt: Date | null
  expiresAt: Date | null
  revokedAt: Date | null
  /** Browsers signed in with it now. */
  sessions: number
}

/** Every operator key, the usable ones first; never the key itself, which is not kept. */
export function listKeys(ctx: Pick<Context, 'db' | 'clock'>): Promise<OperatorKey[]> {
  return ctx.db.query<OperatorKey & Record<string, unknown>>(
    `select k.id::text as id, k.name, k.role, k.created_at as "createdAt", k.last_used_at as "lastUsedAt", k.expires_at as "expiresAt",
       k.revoked_at as "revokedAt", (select count(*)::int from caretaker.sessions s
         where s.key_id = k.id and s.ended_at is null and s.expires_at > $1::timestamptz) as sessions
     from caretaker.api_keys k order by k.revoked_at is not null, k.created_at desc limit 500`,
    [ctx.clock.now()],
  )
}

/**
 * Takes a key back: at once, also for who is signed in with it. Audited. Returns its name.
 * @throws {CaretakerError} `not_found`; `conflict` for one that was revoked before
 */
export async function revokeKey(ctx: Context, id: string): Promise<string> {
  const unknown = new CaretakerError('not_found', 'There is no key of that id.')
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(id)) throw unknown
  return ctx.db.transaction(async (tx) => {
    const [revoked] = await tx.query<{ name: string; role: string }>(
      'update caretaker.api_keys set revoked_at = $2::timestamptz where id = $1::uuid and revoked_at is null returning name, role',
      [id, ctx.clock.now()],
    )
    if (revoked === undefined) {
      const [there] = await tx.query('select from caretaker.api_keys where id = $1::uuid', [id])
      throw there === undefined ? unknown : new CaretakerError('conflict', 'The key was revoked before.')
    }
    await appendAudit(tx, ctx, { action: 'key.revoked', target: id, detail: { role: revoked.role } })
    return revoked.name
  })
}
