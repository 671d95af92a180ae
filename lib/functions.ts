import { randomUUID } from 'node:crypto'
import { createRuntime, type Runtime } from './compose.ts'
import type { Policy } from './config/index.ts'
import { type NetlifyContext, netlifyInvocation, netlifyLimitsMs } from './http/hosts/netlify.ts'
import { vercelInvocation } from './http/hosts/vercel.ts'
import { type Invocation, problemResponse, type Route, serveRoutes } from './http/index.ts'
import { secured } from './http/security-headers.ts'
import { systemClock } from './platform/clock.ts'
import type { Context } from './platform/context.ts'
import { recordRequests } from './record-requests.ts'

/** A function's routes, made once for one process. */
export type FunctionRoutes = () => readonly Route[]

/** Prepares the runtime at the first request and keeps it while the instance lives. */
function lazyRuntime(policy: Policy): () => Runtime {
  let runtime: Runtime | undefined
  return () => {
    try {
      runtime ??= createRuntime({ policy })
      return runtime
    } catch (error) {
      // Without a runtime there is no log yet.
      console.error(error instanceof Error ? error.message : 'The function cannot start.')
      throw error
    }
  }
}

/** Answers with the routes; a broken environment answers 503 at every request, it does not crash the instance. */
function lazyHandler(policy: Policy, routes: FunctionRoutes) {
  const start = lazyRuntime(policy)
  let handler: ReturnType<typeof serveRoutes> | undefined
  return async (request: Request, invocation: Invocation): Promise<Response> => {
    try {
      const runtime = start()
      handler ??= serveRoutes(routes(), (options) => runtime.context(options), recordRequests(runtime))
    } catch (error) {
      const requestId = randomUUID()
      return secured(problemResponse(error, requestId), requestId)
    }
    return handler(request, invocation)
  }
}

/** A Netlify function: `export default onNetlify(health, policy)`. */
export function onNetlify(routes: FunctionRoutes, policy: Policy, kind: 'synchronous' | 'background' = 'synchronous') {
  const handle = lazyHandler(policy, routes)
  return {
    fetch: (request: Request, context?: NetlifyContext) =>
      handle(request, netlifyInvocation(context, systemClock.now(), netlifyLimitsMs[kind])),
  }
}

/**
 * A scheduled Netlify function: `export default onNetlifySchedule(verb, policy)`. It has no address and nobody to
 * authenticate: only Netlify's clock calls it. A verb that throws answers 500, which Netlify shows in the function's log.
 */
export function onNetlifySchedule(verb: (ctx: Context) => Promise<unknown>, policy: Policy) {
  const start = lazyRuntime(policy)
  return {
    async fetch(_request: Request, context?: NetlifyContext): Promise<Response> {
      const requestId = randomUUID()
      const { deadline } = netlifyInvocation(context, systemClock.now(), netlifyLimitsMs.scheduled)
      let ctx: Context | undefined
      try {
        ctx = start().context({ actor: { type: 'system', job: 'schedule' }, requestId, deadline })
        return Response.json(await verb(ctx))
      } catch (error) {
        ctx?.log.error({ err: error }, 'scheduled call failed')
        return problemResponse(error, requestId)
      }
    },
  }
}

/** A Vercel function: `export default onVercel(health, policy)`; `maxDurationSeconds` as in vercel.json. */
export function onVercel(routes: FunctionRoutes, policy: Policy, maxDurationSeconds = 60) {
  const handle = lazyHandler(policy, routes)
  return { fetch: (request: Request) => handle(request, vercelInvocation(request, systemClock.now(), maxDurationSeconds * 1_000)) }
}
