import type * as z from 'zod/mini'
import type { Actor, Role } from '../platform/actor.ts'
import type { Context } from '../platform/context.ts'
import type { Session } from './session.ts'

export type Method = 'GET' | 'POST' | 'DELETE'

/**
 * Who may call: anyone; a provider whose signature the verb checks; a host that presents CRON_SECRET; an operator with
 * one of the roles (or, where `key` names it, whoever presents that secret of the environment); the person the data is about (or an
 * operator with one of the roles); a browser whose operator has signed in.
 */
export type Authentication =
  | 'public'
  | 'signature'
  | 'cron'
  | { operator: readonly Role[]; key?: 'METRICS_KEY' }
  | { subject: true; operator: readonly Role[] }
  | { session: readonly Role[] }

export interface RequestInput<Query = Record<string, string>, Body = unknown> {
  params: Record<string, string>
  query: Query
  body: Body
  request: Request
  requestId: string
  /** What stands in each form of one showing of a page; undefined where a form has none. */
  once: string | undefined
  /** The address of the caller or, where it is one of 2^64 that the caller holds, its network. */
  network: string
  /** Who is signed in, where the route takes a session. */
  session: Session | undefined
  /** Work after the answer, as far as the host allows: never anything that must not be lost. */
  afterwards(work: Promise<unknown>): void
}

/** The fields of a form as they came: a text each, or a list where a name comes more than once. */
export type FormFields = Readonly<Record<string, string | readonly string[]>>

/** What is known of a request that failed, as far as it came. */
export interface Failed {
  request: Request
  requestId: string
  params: Record<string, string>
  /** Who is signed in and may do this; undefined where nobody is, or it was not found out. */
  caller: { actor: Actor; session: Session } | undefined
  /** What the form held; null where it was none of this site's, or cannot be read. */
  fields(): Promise<FormFields | null>
}

export interface Route {
  methods: readonly Method[]
  /** Segments; `:name` takes one. */
  path: string
  summary: string
  auth: Authentication
  /** Requests a minute and caller: 100 or, where it is sensitive, 20. `none`: whoever calls has a signature or a secret. */
  limit: 'standard' | 'sensitive' | 'none'
  query?: z.ZodMiniType
  /** A zod schema for a JSON body, `form(…)` for the fields of a page's form, or `bytes` for the body as it came. */
  body?: z.ZodMiniType | FormBody | 'bytes'
  /** Default 1 MiB. */
  bodyLimitBytes?: number
  handle(ctx: Context, input: RequestInput<never, never>): Promise<Response>
  /** What a page answers with in place of a problem document; it is no part of the described API. */
  problem?(ctx: Context, error: unknown, failed: Failed): Promise<Response>
}

/** The fields of an HTML form. Only a page of this site may send it and, where somebody is signed in, only one of their session. Its hidden `csrf` and `once` are none of them. */
export interface FormBody<S extends z.ZodMiniType = z.ZodMiniType> {
  form: S
}

/** A form with these fields. */
export function form<S extends z.ZodMiniType>(schema: S): FormBody<S> {
  return { form: schema }
}

type Output<S, Otherwise> =
  S extends z.ZodMiniType<infer T> ? T : S extends FormBody<z.ZodMiniType<infer F>> ? F : S extends 'bytes' ? Uint8Array : Otherwise

/** One route, with the types of its query and body inferred from their schemas. */
export function route<
  Q extends z.ZodMiniType | undefined = undefined,
  B extends z.ZodMiniType | FormBody | 'bytes' | undefined = undefined,
>(
  definition: Omit<Route, 'handle' | 'query' | 'body'> & {
    query?: Q
    body?: B
    handle(ctx: Context, input: RequestInput<Output<Q, Record<string, string>>, Output<B, undefined>>): Promise<Response>
  },
): Route {
  return definition as unknown as Route
}

/** JSON, as every API answer is. */
export function json(value: unknown, init: ResponseInit = {}): Response {
  const headers = new Headers(init.headers)
  if (!headers.has('content-type')) headers.set('content-type', 'application/json; charset=utf-8')
  return new Response(JSON.stringify(value), { ...init, headers })
}

/** The parameters when `path` matches `pattern`, or null. */
export function matchPath(pattern: string, path: string): Record<string, string> | null {
  const wanted = pattern.split('/')
  const found = path.replace(/\/+$/, '').split('/')
  if (path === '/' && pattern === '/') return {}
  if (wanted.length !== found.length) return null
  const params: Record<string, string> = {}
  for (const [index, segment] of wanted.entries()) {
    const value = found[index] as string
    if (!segment.startsWith(':')) {
      if (segment !== value) return null
      continue
    }
    if (value === '') return null
    // No name holds it, and PostgreSQL cannot be asked for it.
    if (value.includes('%00')) return null
    try {
      params[segment.slice(1)] = decodeURIComponent(value)
    } catch {
      return null
    }
  }
  return params
}
