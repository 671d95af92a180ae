import { type Route, serveRoutes } from '../../lib/http/index.ts'
import type { Context } from '../../lib/platform/context.ts'

/** Requests against `routes` without a network; every invocation gets `ctx` with its own signal. */
export function testServer(routes: readonly Route[], ctx: Context) {
  const handle = serveRoutes(routes, ({ actor, signal, deadline }) => ({ ...ctx, actor, signal, deadline }))
  const after: Promise<unknown>[] = []
  return {
    request(path: string, init: RequestInit & { address?: string } = {}) {
      const deadline = new Date(ctx.clock.now().getTime() + 60_000)
      return handle(new Request(`http://localhost${path}`, init), {
        clientAddress: init.address ?? '203.0.113.7',
        deadline,
        waitUntil: (work) => after.push(work),
      })
    },
    /** Waits for what was left for after the answer. */
    settled: () => Promise.all(after),
  }
}

export function bearer(token: string): { headers: Record<string, string> } {
  return { headers: { authorization: `Bearer ${token}` } }
}
