import type { Clock } from '../../lib/platform/clock.ts'
import type { Database, Transaction } from '../../lib/platform/db.ts'
import type { Claims, Tokens } from './keys.ts'

/** What the parts of the local Supabase work with. */
export interface Ground {
  readonly db: Database
  readonly tokens: Tokens
  readonly clock: Clock
  /** The project's address, without a slash at the end. */
  readonly url: string
  /** Where stored files live, one a version of an object. */
  readonly filesDirectory: string
}

/** One request, its path below the service and its bearer. */
export interface Call {
  readonly request: Request
  readonly method: string
  /** Decoded segments below /auth/v1, /storage/v1 or /rest/v1. */
  readonly path: readonly string[]
  readonly query: URLSearchParams
  readonly claims: Claims
}

/** Ends a request with a status and the body that the service gives there. */
export class Refusal extends Error {
  readonly status: number
  readonly body: unknown
  constructor(status: number, body: unknown) {
    super(`refused with ${status}`)
    this.status = status
    this.body = body
  }
}

export function json(body: unknown, status = 200, headers: Record<string, string> = {}): Response {
  return Response.json(body, { status, headers })
}

/** The request's JSON object, `{}` when there is no body. */
export async function bodyOf(request: Request): Promise<Record<string, unknown>> {
  const text = await request.text()
  if (text === '') return {}
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw new Refusal(400, { code: 400, error_code: 'bad_json', msg: 'The body is not JSON.', message: 'The body is not JSON.' })
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new Refusal(400, { code: 400, error_code: 'bad_json', msg: 'Expected a JSON object.' })
  return value as Record<string, unknown>
}

/** Runs `work` as the bearer's role with the bearer's claims, so that row level security decides. */
export function asBearer<T>(ground: Ground, claims: Claims, work: (tx: Transaction) => Promise<T>, readOnly = false): Promise<T> {
  return ground.db.transaction(
    async (tx) => {
      await tx.execute(
        `select set_config('request.jwt.claims', $1, true), set_config('storage.allow_delete_query', 'true', true), set_config('role', $2, true)`,
        [JSON.stringify(claims), claims.role],
      )
      return work(tx)
    },
    { readOnly },
  )
}
