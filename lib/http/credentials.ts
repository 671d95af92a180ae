import { createHash, timingSafeEqual } from 'node:crypto'
import { type Actor, type Role, roles } from '../platform/actor.ts'
import type { Context } from '../platform/context.ts'
import { CaretakerError, sqlState } from '../platform/errors.ts'

/** Compares digests, so that neither the content nor the length of the secret shows in the time it takes. */
export function sameSecret(presented: string, secret: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest()
  return timingSafeEqual(digest(presented), digest(secret))
}

/** API keys carry 256 random bits, so one fast hash is enough to store and to look up. */
export function keyHash(key: string): Buffer {
  return createHash('sha256').update('caretaker:api-key:v1\0').update(key).digest()
}

/** The operator whose key it is. @throws {CaretakerError} `unauthorized` for one that is unknown, revoked or over */
export async function operatorByKey(ctx: Pick<Context, 'db'>, key: string): Promise<Actor & { type: 'operator' }> {
  const [found] = await prepared(
    ctx.db.query<{ id: string; role: string }>(
      `update caretaker.api_keys set last_used_at = now()
       where hash = $1::bytea and revoked_at is null and (expires_at is null or expires_at > now()) returning id::text, role`,
      [keyHash(key)],
    ),
  )
  if (found === undefined) throw new CaretakerError('unauthorized', 'The operator key is not known, or was revoked.')
  return { type: 'operator', id: found.id, role: knownRole(found.role) }
}

/** Says in words that the database has not been prepared, instead of that of a defect. @throws {CaretakerError} `not_configured` */
export async function prepared<T>(work: Promise<T>): Promise<T> {
  return work.catch((cause: unknown) => {
    if (sqlState(cause) !== '42P01' && sqlState(cause) !== '3F000') throw cause
    throw new CaretakerError('not_configured', 'This database lacks tables of Caretaker. Run `caretaker db migrate` on it first.', {
      cause,
    })
  })
}

/** @throws {CaretakerError} `forbidden` for a name that is no role */
export function knownRole(role: string): Role {
  const known = roles.find((one) => one === role)
  if (known === undefined) throw new CaretakerError('forbidden', `The role "${role}" is not one of ${roles.join(', ')}.`)
  return known
}
