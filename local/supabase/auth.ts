import { randomBytes, randomUUID } from 'node:crypto'
import type { Transaction } from '../../lib/platform/db.ts'
import { bodyOf, type Call, type Ground, json } from './reply.ts'
import { createUser, deleteUser, findUser, listUsers, refuse, type User, updateUser } from './users.ts'

const accessLifetimeSeconds = 3600
const uuid = /^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$/i
const nothingHere = () => refuse(404, 'not_found', 'The local stack does not answer this path')

/** /auth/v1: sign-up, sign-in with a password, refresh, the user, sign-out, and the admin calls. */
export async function answerAuth(ground: Ground, call: Call): Promise<Response> {
  const { db, tokens } = ground
  const [first, second, third, ...rest] = call.path
  if (rest.length > 0) throw nothingHere()
  if (first === 'admin' && second === 'users') return answerAdmin(ground, call, third)
  switch (`${call.method} ${call.path.join('/')}`) {
    case 'GET health':
      await db.query('select 1 from auth.users limit 1')
      return json({ version: 'local', name: 'GoTrue', description: 'Auth of the local stack' })
    case 'GET settings':
      return json({ external: { email: true, phone: false }, disable_signup: false, mailer_autoconfirm: true, phone_autoconfirm: false })
    case 'GET .well-known/jwks.json':
      return json(tokens.jwks, 200, { 'cache-control': 'public, max-age=600' })
    case 'POST signup': {
      const { email, password, data } = await bodyOf(call.request)
      if (password === undefined) throw refuse(400, 'validation_failed', 'Signup requires a valid password')
      return json(
        await db.transaction(async (tx) =>
          startSession(ground, tx, await createUser(tx, { email, password, user_metadata: data, email_confirm: true }), call.request),
        ),
      )
    }
    case 'POST token':
      return json(await issueToken(ground, call))
    case 'GET user':
      return json(await signedIn(ground, call))
    case 'PUT user': {
      const user = await signedIn(ground, call)
      const { email, password, data } = await bodyOf(call.request)
      return json(await db.transaction((tx) => updateUser(tx, user.id, { email, password, user_metadata: data })))
    }
    case 'POST logout':
      await signOut(ground, call)
      return new Response(null, { status: 204 })
    default:
      throw nothingHere()
  }
}

async function answerAdmin(ground: Ground, call: Call, id: string | undefined): Promise<Response> {
  if (call.claims.role !== 'service_role') throw refuse(403, 'not_admin', 'User not allowed')
  if (id !== undefined && !uuid.test(id)) throw refuse(404, 'validation_failed', 'user_id must be an UUID')
  const { db } = ground
  if (id === undefined) {
    if (call.method === 'POST') {
      const fields = await bodyOf(call.request)
      return json(await db.transaction((tx) => createUser(tx, fields)))
    }
    if (call.method !== 'GET') throw nothingHere()
    const page = positive(call.query.get('page'), 1)
    const perPage = Math.min(1000, positive(call.query.get('per_page'), 50))
    const { users, total } = await listUsers(db, page, perPage)
    const last = Math.max(1, Math.ceil(total / perPage))
    const link = (to: number, rel: string) => `<${ground.url}/auth/v1/admin/users?page=${to}&per_page=${perPage}>; rel="${rel}"`
    const links = [...(page < last ? [link(page + 1, 'next')] : []), link(last, 'last')]
    return json({ users, aud: 'authenticated' }, 200, { 'x-total-count': String(total), link: links.join(', ') })
  }
  switch (call.method) {
    case 'GET': {
      const user = await findUser(db, id)
      if (user === null) throw refuse(404, 'user_not_found', 'User not found')
      return json(user)
    }
    case 'PUT': {
      const fields = await bodyOf(call.request)
      return json(await db.transaction((tx) => updateUser(tx, id, fields)))
    }
    case 'DELETE':
      await db.transaction((tx) => deleteUser(tx, id))
      return json({})
    default:
      throw nothingHere()
  }
}

async function issueToken(ground: Ground, call: Call): Promise<unknown> {
  const body = await bodyOf(call.request)
  const grant = call.query.get('grant_type')
  if (grant === 'password') {
    const { email, password } = body
    return ground.db.transaction(async (tx) => {
      const [found] = await tx.query<{ id: string }>(
        `select id from auth.users where lower(email) = lower($1) and encrypted_password <> '' and encrypted_password = extensions.crypt($2, encrypted_password)`,
        [String(email ?? ''), String(password ?? '')],
      )
      const user = found === undefined ? null : await findUser(tx, found.id)
      if (user === null) throw refuse(400, 'invalid_credentials', 'Invalid login credentials')
      return startSession(ground, tx, user, call.request)
    })
  }
  if (grant === 'refresh_token') {
    return ground.db.transaction(async (tx) => {
      // Conditional: of two refreshes with one token the second finds it revoked.
      const [used] = await tx.query<{ user_id: string; session_id: string }>(
        `update auth.refresh_tokens set revoked = true, updated_at = now() where token = $1 and not revoked returning user_id, session_id`,
        [String(body.refresh_token ?? '')],
      )
      const user = used === undefined ? null : await findUser(tx, used.user_id)
      if (used === undefined || user === null)
        throw refuse(400, 'refresh_token_not_found', 'Invalid Refresh Token: Refresh Token Not Found')
      await tx.execute('update auth.sessions set refreshed_at = now(), updated_at = now() where id = $1::uuid', [used.session_id])
      return session(ground, tx, user, used.session_id, String(body.refresh_token))
    })
  }
  throw refuse(400, 'validation_failed', 'unsupported_grant_type')
}

async function startSession(ground: Ground, tx: Transaction, user: User, request: Request): Promise<unknown> {
  const id = randomUUID()
  await tx.execute(
    'insert into auth.sessions (id, user_id, created_at, updated_at, user_agent) values ($1::uuid, $2::uuid, now(), now(), $3)',
    [id, user.id, request.headers.get('user-agent')],
  )
  await tx.execute('update auth.users set last_sign_in_at = now() where id = $1::uuid', [user.id])
  return session(ground, tx, (await findUser(tx, user.id)) ?? user, id, null)
}

async function session(ground: Ground, tx: Transaction, user: User, sessionId: string, parent: string | null): Promise<unknown> {
  if (user.banned_until !== null && user.banned_until > ground.clock.now()) throw refuse(400, 'user_banned', 'User is banned')
  const refreshToken = randomBytes(9).toString('base64url')
  await tx.execute(
    `insert into auth.refresh_tokens (token, user_id, revoked, created_at, updated_at, parent, session_id) values ($1, $2, false, now(), now(), $3, $4::uuid)`,
    [refreshToken, user.id, parent, sessionId],
  )
  const issuedAt = Math.floor(ground.clock.now().getTime() / 1000)
  const accessToken = ground.tokens.sign(
    {
      iss: `${ground.url}/auth/v1`,
      sub: user.id,
      aud: 'authenticated',
      email: user.email ?? '',
      phone: '',
      app_metadata: user.app_metadata,
      user_metadata: user.user_metadata,
      role: 'authenticated',
      aal: 'aal1',
      amr: [{ method: 'password', timestamp: issuedAt }],
      session_id: sessionId,
      is_anonymous: false,
    },
    accessLifetimeSeconds,
  )
  return {
    access_token: accessToken,
    token_type: 'bearer',
    expires_in: accessLifetimeSeconds,
    expires_at: issuedAt + accessLifetimeSeconds,
    refresh_token: refreshToken,
    user,
  }
}

/** The bearer, who must still exist and still be signed in: the token alone outlives both. */
async function signedIn(ground: Ground, call: Call): Promise<User> {
  const { sub, session_id: sessionId } = call.claims
  if (sub === undefined || !uuid.test(sub)) throw refuse(403, 'bad_jwt', 'invalid claim: missing sub claim')
  const user = await findUser(ground.db, sub)
  if (user === null) throw refuse(403, 'user_not_found', 'User from sub claim in JWT does not exist')
  const open = await ground.db.query('select 1 from auth.sessions where id::text = $1 and user_id = $2::uuid', [sessionId ?? '', sub])
  if (open.length === 0) throw refuse(403, 'session_not_found', 'Session from session_id claim in JWT does not exist')
  return user
}

async function signOut(ground: Ground, call: Call): Promise<void> {
  const user = await signedIn(ground, call)
  const scope = call.query.get('scope') ?? 'global'
  const which = { global: 'true', local: 'id::text = $2', others: 'id::text <> $2' }[scope]
  if (which === undefined) throw refuse(400, 'validation_failed', `Unsupported logout scope ${JSON.stringify(scope)}`)
  await ground.db.execute(`delete from auth.sessions where user_id = $1::uuid and ($2::text is not null and ${which})`, [
    user.id,
    call.claims.session_id ?? '',
  ])
}

function positive(value: string | null, fallback: number): number {
  const number = Number(value ?? fallback)
  return Number.isInteger(number) && number > 0 ? number : fallback
}
