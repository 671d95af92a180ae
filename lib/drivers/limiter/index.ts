import { createHash, createHmac } from 'node:crypto'
import type { Database } from '../../platform/db.ts'
import type { Env } from '../../platform/env.ts'
import { CaretakerError } from '../../platform/errors.ts'
import type { RateLimiter } from '../../platform/limiter.ts'

/**
 * Upstash's sliding window where both of its variables are set, the same window counted in PostgreSQL otherwise. Only
 * the one that is used is loaded, at the first hit.
 *
 * Stores never see a key, only its hash: keys hold addresses and ids of people.
 */
export function openLimiter(env: Env, db: Database): RateLimiter {
  let opened: Promise<RateLimiter> | undefined
  return {
    async hit(key, limit, windowSeconds) {
      checkWindow(limit, windowSeconds)
      opened ??= open(env, db)
      return (await opened).hit(hashed(key, env.ENCRYPTION_KEY), limit, windowSeconds)
    },
  }
}

async function open(env: Env, db: Database): Promise<RateLimiter> {
  const { UPSTASH_REDIS_REST_URL: url, UPSTASH_REDIS_REST_TOKEN: token } = env
  if (url !== undefined && token !== undefined) return (await import('./upstash.ts')).upstashLimiter({ url, token })
  return (await import('./postgres.ts')).postgresLimiter(db)
}

function hashed(key: string, encryptionKey: string | undefined): string {
  const hash =
    encryptionKey === undefined
      ? createHash('sha256')
      : createHmac('sha256', Buffer.from(encryptionKey, 'hex')).update('caretaker:limit:v1\0')
  return hash.update(key).digest('base64url')
}

function checkWindow(limit: number, windowSeconds: number): void {
  if (!Number.isSafeInteger(limit) || limit < 1)
    throw new CaretakerError('invalid_input', `limit: found ${limit}; expected a whole number of at least 1.`)
  if (!Number.isSafeInteger(windowSeconds) || windowSeconds < 1 || windowSeconds > 86_400)
    throw new CaretakerError('invalid_input', `windowSeconds: found ${windowSeconds}; expected a whole number from 1 to 86400.`)
}
