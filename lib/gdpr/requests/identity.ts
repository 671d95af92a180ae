import { durationMs } from '../../config/index.ts'
import type { Context } from '../../platform/context.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { requirePolicy } from '../policy.ts'

/**
 * A token outlives what it speaks of: before anything is handed out or deleted, the person must still exist and still be
 * signed in and, for an erasure, have signed in within minutes. Operators answer for whom they name.
 * @throws {CaretakerError} `unauthorized`, `reauthentication_required`
 */
export async function requireLivingSubject(ctx: Context, kind: 'export' | 'erase'): Promise<void> {
  const { actor } = ctx
  if (actor.type !== 'subject') return
  const signedOut = new CaretakerError('unauthorized', 'The access token is of a user or a session that is no longer there. Sign in again.')
  const [tables] = await ctx.db.query<{ users: boolean; sessions: boolean }>(
    `select to_regclass('auth.users') is not null as users, to_regclass('auth.sessions') is not null as sessions`,
  )
  // A string that is no uuid cannot be a Supabase user.
  const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i
  if (tables?.users === true) {
    const known = uuid.test(actor.id)
      ? await ctx.db.query('select from auth.users where id = $1::uuid and deleted_at is null', [actor.id])
      : []
    if (known.length === 0) throw signedOut
  } else {
    // The app's data lies beside its Auth: ask Auth itself.
    const { data, error } = await (await ctx.supabase()).auth.admin.getUserById(actor.id)
    if (error !== null && error.status !== 404)
      throw new CaretakerError('upstream_failed', 'Supabase Auth cannot say whether the user still exists; try again shortly.', {
        retryAfterSeconds: 10,
      })
    if (data.user === null) throw signedOut
  }
  if (tables?.sessions === true && actor.session !== undefined) {
    const open = uuid.test(actor.session)
      ? await ctx.db.query('select from auth.sessions where id = $1::uuid and user_id = $2::uuid', [actor.session, actor.id])
      : []
    if (open.length === 0) throw signedOut
  }
  if (kind !== 'erase') return
  const limit = requirePolicy(ctx).requests?.freshSignIn ?? '10 minutes'
  const age = ctx.clock.now().getTime() - (actor.authenticatedAt ?? 0) * 1_000
  if (age > durationMs(limit))
    throw new CaretakerError(
      'reauthentication_required',
      `To be erased, a person must have signed in within the last ${limit}: sign in again, then repeat the request with the new token.`,
    )
}
