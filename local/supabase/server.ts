import { answerAuth } from './auth.ts'
import type { Claims } from './keys.ts'
import { type Call, type Ground, json, Refusal } from './reply.ts'
import { answerRest } from './rest.ts'
import { answerStorage } from './storage.ts'

const services = { auth: answerAuth, rest: answerRest, storage: answerStorage }
const prefix = /^\/(auth|rest|storage)\/v1(?=\/|$)/

/** True for a path that the local Supabase answers. */
export function isSupabasePath(pathname: string): boolean {
  return prefix.test(pathname)
}

/**
 * A Supabase project over one database and one folder, as far as supabase-js and an operations backend ask it:
 * Auth, Storage and reads through REST. Row level security is real; e-mails are never sent and addresses count as confirmed.
 */
export function createSupabase(ground: Ground): (request: Request) => Promise<Response> {
  return async (request) => {
    const url = new URL(request.url)
    const service = prefix.exec(url.pathname)?.[1] as keyof typeof services | undefined
    if (service === undefined) return json({ message: 'no Route matched with those values' }, 404)
    try {
      const path = url.pathname
        .replace(prefix, '')
        .split('/')
        .filter((part) => part !== '')
        .map(decodeURIComponent)
      const open = (request.method === 'GET' || request.method === 'HEAD') && isOpen(service, path)
      const claims = open ? anyone : authenticate(ground, request, url)
      const call: Call = { request, method: request.method, path, query: url.searchParams, claims }
      return await services[service](ground, call)
    } catch (error) {
      if (error instanceof Refusal) return json(error.body, error.status)
      if (error instanceof URIError) return json({ message: 'The path is not valid percent-encoding.' }, 400)
      throw error
    }
  }
}

const anyone: Claims = { role: 'anon', exp: 0 }

/** What the gateway lets through without a key: public keys, public files, and links that carry their own token. */
function isOpen(service: string, path: readonly string[]): boolean {
  if (service === 'auth') return path[0] === '.well-known'
  if (service === 'storage')
    return path[0] === 'status' || (path[0] === 'object' && (path[1] === 'public' || path[1] === 'sign') && path.length > 3)
  return false
}

function authenticate(ground: Ground, request: Request, url: URL): Claims {
  const bearer = /^Bearer (.+)$/i.exec(request.headers.get('authorization') ?? '')?.[1]
  const key = request.headers.get('apikey') ?? url.searchParams.get('apikey') ?? bearer
  if (key === undefined || key === '')
    throw new Refusal(401, { message: 'No API key found in request', hint: 'Send the anon or service_role key in the apikey header.' })
  const project = ground.tokens.verify(key)
  if (project?.role !== 'anon' && project?.role !== 'service_role') throw new Refusal(401, { message: 'Invalid API key' })
  if (bearer === undefined || bearer === key) return project
  const claims = ground.tokens.verify(bearer)
  // A link to a file is a token of this key too, but it has no role.
  if (claims === null || !['anon', 'authenticated', 'service_role'].includes(claims.role))
    throw new Refusal(401, {
      code: 401,
      error_code: 'bad_jwt',
      msg: 'invalid JWT: expired, or signed by another key',
      message: 'invalid JWT',
    })
  return claims
}
