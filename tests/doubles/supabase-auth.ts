import { HttpResponse, http } from 'msw'

export const supabaseUrl = 'https://project.supabase.test'
export const anonKey = 'the-publishable-key-of-the-project'

export interface AuthAccount {
  id: string
  email: string
  password: string
  factors?: { id: string; factor_type: 'totp' | 'phone' | 'webauthn'; status: 'verified' | 'unverified' }[]
  code?: string
  /** What Auth refuses a right password with; it tells of a ban (`user_banned`) whatever the password is. */
  refused?: string
}

/**
 * Supabase Auth's own API as far as a sign-in with a password goes. It checks that each call carries the key and, after
 * the first, the session. https://supabase.com/docs/reference/self-hosting-auth
 */
export function supabaseAuth(account: AuthAccount, failure?: { status: number }) {
  const calls: string[] = []
  const token = 'header.session-of-the-account.signature'
  const refuse = (status: number, code: string) => HttpResponse.json({ code: status, error_code: code, msg: code }, { status })
  const handle = (path: string, answer: (body: Record<string, unknown>) => Response, signedIn = true) =>
    http.post(`${supabaseUrl}/auth/v1/${path}`, async ({ request }) => {
      const { pathname, search } = new URL(request.url)
      calls.push(pathname.replace('/auth/v1/', '') + search)
      if (failure !== undefined) return new HttpResponse('', { status: failure.status })
      if (request.headers.get('apikey') !== anonKey) return refuse(401, 'no_api_key')
      if (signedIn && request.headers.get('authorization') !== `Bearer ${token}`) return refuse(401, 'no_authorization')
      return answer((await request.json()) as Record<string, unknown>)
    })
  const handlers = [
    handle(
      'token',
      ({ email, password }) => {
        if (email === account.email && account.refused === 'user_banned') return refuse(400, account.refused)
        if (email !== account.email || password !== account.password) return refuse(400, 'invalid_credentials')
        if (account.refused !== undefined) return refuse(400, account.refused)
        return HttpResponse.json({ access_token: token, user: { id: account.id, email: account.email, factors: account.factors ?? null } })
      },
      false,
    ),
    handle('factors/:id/challenge', () => HttpResponse.json({ id: 'challenge-1' })),
    handle('factors/:id/verify', ({ challenge_id: challenge, code }) =>
      challenge === 'challenge-1' && code === account.code
        ? HttpResponse.json({ access_token: 'another', user: { id: account.id } })
        : refuse(422, 'mfa_verification_failed'),
    ),
    handle('logout', () => new HttpResponse(null, { status: 204 })),
  ]
  return { handlers, calls, token }
}
