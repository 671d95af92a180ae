import type { Invocation } from '../serve.ts'

interface VercelRequestContext {
  waitUntil?(work: Promise<unknown>): void
}

/** How Vercel's runtime hands `waitUntil` to a function; what `@vercel/functions` reads. */
const contextSymbol = Symbol.for('@vercel/request-context')

export function vercelInvocation(request: Request, started: Date, limitMs: number): Invocation {
  const holder = (globalThis as Record<symbol, unknown>)[contextSymbol] as { get?(): VercelRequestContext | undefined } | undefined
  const context = holder?.get?.()
  return {
    // Vercel overwrites this header at its edge: https://vercel.com/docs/headers/request-headers
    clientAddress: request.headers.get('x-real-ip') ?? 'unknown',
    deadline: new Date(started.getTime() + limitMs - 2_000),
    waitUntil: (work) => context?.waitUntil?.(work),
  }
}
