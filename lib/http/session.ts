import { createHash, createHmac, randomBytes } from 'node:crypto'
import type { Actor, Role } from '../platform/actor.ts'
import { appendAudit } from '../platform/audit.ts'
import type { Context } from '../platform/context.ts'
import type { Transaction } from '../platform/db.ts'
import { CaretakerError } from '../platform/errors.ts'
import { cookie, readCookie } from './cookies.ts'
import { knownRole, prepared, sameSecret } from './credentials.ts'

/** Who is signed in with a browser, as far as its pages need to know. */
export interface Session {
  id: string
  /** Of the key, or `operator` for a Supabase user: what the page greets with, and no personal data. */
  name: string
  role: Role
  expiresAt: Date
  /** Stands in each form of the session's pages; another site cannot know it. */
  csrfToken: string
}

/** A session belongs to an operator key or to a Supabase user, and ends with them. */
export type SessionOwner = { keyId: string } | { userId: string }

const lifetimeHours = 8
/** Sessions that are over are forgotten after so many days. */
const keptDays = 7

/**
 * Signs in: makes the session and returns the value of `Set-Cookie`. Audited. The session that this browser had before ends: nobody
 * could sign out of it any more.
 */
export async function openSession(ctx: Context, request: Request, owner: SessionOwner, role: Role): Promise<string> {
  const token = randomBytes(32).toString('base64url')
  const now = ctx.clock.now()
  const expiresAt = new Date(now.getTime() + lifetimeHours * 3_600_000)
  const ownerId = 'keyId' in owner ? owner.keyId : owner.userId
  const opened = ctx.db.transaction(async (tx) => {
    await tx.execute('delete from caretaker.sessions where expires_at < $1::timestamptz', [new Date(now.getTime() - keptDays * 86_400_000)])
    const [made] = await tx.query<{ id: string }>(
      `insert into caretaker.sessions (hash, key_id, user_id, created_at, expires_at)
       values ($1::bytea, $2::uuid, $3::uuid, $4::timestamptz, $5::timestamptz) returning id::text`,
      [tokenHash(token), 'keyId' in owner ? owner.keyId : null, 'userId' in owner ? owner.userId : null, now, expiresAt],
    )
    const actor: Actor = { type: 'operator', id: ownerId, role }
    const before = readCookie(request, 'session')
    if (before !== null) await endByToken(tx, { actor, clock: ctx.clock }, before)
    await appendAudit(tx, { actor, clock: ctx.clock }, { action: 'session.opened', target: `session/${made?.id}` })
  })
  await prepared(opened)
  return cookie(request, 'session', token, lifetimeHours * 3_600)
}

/**
 * Who the request's cookie speaks for: the session must be open, and its key not revoked, its user neither banned nor
 * without a role. The role is the one of this moment.
 * @throws {CaretakerError} `unauthorized`; `forbidden` for a role that is none; `not_configured` in a database that is not prepared
 */
export async function findSession(ctx: Context, request: Request): Promise<{ actor: Actor & { type: 'operator' }; session: Session }> {
  const token = readCookie(request, 'session')
  if (token === null) throw new CaretakerError('unauthorized', 'Sign in first.')
  const now = ctx.clock.now()
  const [found] = await prepared(
    ctx.db.query<{
      id: string
      expiresAt: Date
      keyId: string | null
      userId: string | null
      name: string | null
      role: string | null
    }>(
      `select s.id::text as id, s.expires_at as "expiresAt", s.key_id::text as "keyId", s.user_id::text as "userId", k.name, k.role
     from caretaker.sessions s left join caretaker.api_keys k on k.id = s.key_id
     where s.hash = $1::bytea and s.ended_at is null and s.expires_at > $2::timestamptz
       and (s.key_id is null or (k.revoked_at is null and (k.expires_at is null or k.expires_at > $2::timestamptz)))`,
      [tokenHash(token), now],
    ),
  )
  if (found === undefined) throw new CaretakerError('unauthorized', 'The session has ended: sign in again.')
  const role = found.userId === null ? knownRole(found.role ?? '') : await userRole(ctx, found.userId)
  if (role === null) throw new CaretakerError('unauthorized', 'The account is not an operator any more: sign in again.')
  return {
    actor: { type: 'operator', id: found.userId ?? found.keyId ?? '', role },
    session: { id: found.id, name: found.name ?? 'operator', role, expiresAt: found.expiresAt, csrfToken: csrfToken(token) },
  }
}

/** Signs out, here and wherever the cookie may have been copied to. Returns the `Set-Cookie` that removes it. */
export async function endSession(ctx: Context, request: Request): Promise<string> {
  const token = readCookie(request, 'session')
  if (token !== null) await ctx.db.transaction((tx) => endByToken(tx, ctx, token))
  return cookie(request, 'session', '', 0)
}

async function endByToken(tx: Transaction, ctx: Pick<Context, 'actor' | 'clock'>, token: string): Promise<void> {
  const [ended] = await tx.query<{ id: string }>(
    `update caretaker.sessions set ended_at = $2::timestamptz where hash = $1::bytea and ended_at is null returning id::text`,
    [tokenHash(token), ctx.clock.now()],
  )
  if (ended !== undefined) await appendAudit(tx, ctx, { action: 'session.ended', target: `session/${ended.id}` })
}

/** The `Set-Cookie` that makes this browser forget its session, where the session itself could not be ended. */
export function forgetSession(request: Request): string {
  return cookie(request, 'session', '', 0)
}

/**
 * The role that Supabase's own table gives a user now: null for one who is gone, banned, or has none.
 * @throws {CaretakerError} `not_configured` where the database has no such table: a session could never be taken back
 */
export async function userRole(ctx: Pick<Context, 'db' | 'clock'>, userId: string): Promise<Role | null> {
  const [table] = await ctx.db.query<{ there: boolean }>(`select to_regclass('auth.users') is not null as there`)
  if (table?.there !== true)
    throw new CaretakerError('not_configured', 'Signing in with an account takes the table auth.users in DATABASE_URL; sign in with a key.')
  const [user] = await ctx.db.query<{ role: string | null }>(
    `select raw_app_meta_data ->> 'caretaker_role' as role from auth.users
     where id = $1::uuid and (banned_until is null or banned_until <= $2::timestamptz) and deleted_at is null`,
    [userId, ctx.clock.now()],
  )
  return typeof user?.role === 'string' && user.role !== '' ? knownRole(user.role) : null
}

/**
 * A form counts only where a page of this very site has sent it.
 * @throws {CaretakerError} `forbidden`
 */
export function assertOwnPage(request: Request, publicUrl: string | undefined): void {
  const site = request.headers.get('sec-fetch-site')
  if (site !== null && site !== 'same-origin') throw foreignForm()
  const origin = request.headers.get('origin')
  const own = [new URL(request.url).origin, ...(publicUrl === undefined ? [] : [new URL(publicUrl).origin])]
  // Each browser of the last years sends one of the two with a form.
  if (origin === null ? site === null : !own.includes(origin)) throw foreignForm()
}

/** @throws {CaretakerError} `forbidden` when the form is not one of this session's pages */
export function assertCsrfToken(session: Session, presented: unknown): void {
  if (typeof presented !== 'string' || !sameSecret(presented, session.csrfToken)) throw foreignForm()
}

function foreignForm(): CaretakerError {
  return new CaretakerError('forbidden', 'This form was not sent by a page of this session. Open the page again and repeat what you did.')
}

/** What an action has done, told by the page after it: read once. `none`: neither done nor wrong, such as what somebody else had done. */
export interface Flash {
  tone: 'ok' | 'bad' | 'none'
  text: string
}

/** The `Set-Cookie` with a message for the page `to`: another one, in another tab, does not take it. */
export function flashCookie(request: Request, flash: Flash, to: string): string {
  const said = { tone: flash.tone, text: flash.text.slice(0, 600), at: pathOf(to) }
  return cookie(request, 'flash', Buffer.from(JSON.stringify(said)).toString('base64url'), 60)
}

/** The message for the page that is asked for, and the `Set-Cookie` that forgets it; null where there is none. */
export function takeFlash(request: Request): { flash: Flash; forget: string } | null {
  const value = readCookie(request, 'flash')
  if (value === null) return null
  try {
    const { tone, text, at } = JSON.parse(Buffer.from(value, 'base64url').toString()) as Partial<Flash & { at: string }>
    if ((tone === 'ok' || tone === 'bad' || tone === 'none') && typeof text === 'string' && at === pathOf(request.url))
      return { flash: { tone, text }, forget: cookie(request, 'flash', '', 0) }
  } catch {
    // Somebody wrote a cookie of their own: it says nothing.
  }
  return null
}

function pathOf(address: string): string {
  return new URL(address, 'http://here.invalid').pathname
}

function csrfToken(token: string): string {
  return createHmac('sha256', token).update('caretaker:csrf:v1').digest('base64url')
}

function tokenHash(token: string): Buffer {
  return createHash('sha256').update('caretaker:session:v1\0').update(token).digest()
}
