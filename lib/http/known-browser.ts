import { createHash, randomBytes } from 'node:crypto'
import type { Context } from '../platform/context.ts'
import { sqlState } from '../platform/errors.ts'
import { cookie, readCookie } from './cookies.ts'

/** Nobody who is on call every other month has to begin anew. */
const lifetimeDays = 180

/*
 * A browser in which an account has signed in before is known by a cookie. Attempts from it are counted apart, so that a stranger who
 * tries the account's password elsewhere uses up nobody's but their own. It lets nobody in.
 * https://owasp.org/www-community/Slow_Down_Online_Guessing_Attacks_with_Device_Cookies
 */

/** The browser's token where the account has signed in with it, else null. */
export async function knownBrowser(ctx: Pick<Context, 'db' | 'clock'>, request: Request, email: string): Promise<string | null> {
  const token = readCookie(request, 'browser')
  if (token === null) return null
  const [known] = await ctx.db
    .query('select from caretaker.known_browsers where hash = $1::bytea and expires_at > $2::timestamptz', [
      browserHash(token, email),
      ctx.clock.now(),
    ])
    .catch((error: unknown) => {
      // A database that was rolled back to before this code lets its operators in as strangers.
      if (sqlState(error) !== '42P01') throw error
      return []
    })
  return known === undefined ? null : token
}

/** Remembers the browser, or goes on doing so. Returns the `Set-Cookie`; null where it could not be done, which is no reason to let nobody in. */
export async function rememberBrowser(
  ctx: Pick<Context, 'db' | 'clock' | 'log'>,
  request: Request,
  email: string,
  known: string | null,
): Promise<string | null> {
  const token = known ?? randomBytes(32).toString('base64url')
  const now = ctx.clock.now()
  try {
    await ctx.db.execute('delete from caretaker.known_browsers where expires_at <= $1::timestamptz', [now])
    await ctx.db.execute(
      `insert into caretaker.known_browsers as b (hash, expires_at) values ($1::bytea, $2::timestamptz)
       on conflict (hash) do update set expires_at = greatest(b.expires_at, excluded.expires_at)`,
      [browserHash(token, email), new Date(now.getTime() + lifetimeDays * 86_400_000)],
    )
  } catch (error) {
    ctx.log.warn({ err: error }, 'the browser of a sign-in was not remembered')
    return null
  }
  return cookie(request, 'browser', token, lifetimeDays * 86_400)
}

function browserHash(token: string, email: string): Buffer {
  return createHash('sha256').update('caretaker:browser:v1\0').update(token).update('\0').update(email).digest()
}
