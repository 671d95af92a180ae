import { createRuntime, type Runtime } from './compose.ts'
import type { Policy } from './config/index.ts'
import { type NetlifyContext, netlifyInvocation, netlifyLimitsMs } from './http/hosts/netlify.ts'
import { vercelInvocation } from './http/hosts/vercel.ts'
import { type Invocation, problemResponse, type Route, serveRoutes } from './http/index.ts'
import { systemClock } from './platform/clock.ts'

/** A function's routes, made for one process. */
export type FunctionRoutes = (runtime: Runtime) => readonly Route[]

type Handler = (request: Request, invocation: Invocation) => Promise<Response>

/** Prepares the runtime at the first request and keeps it while the instance lives. A broken environment answers 503, it does not crash. */
function lazyHandler(policy: Policy, routes: FunctionRoutes): Handler {
  let handler: Handler | undefined
  return async (request, invocation) => {
    if (handler === undefined) {
      try {
        const runtime = createRuntime({ policy })
        handler = serveRoutes(routes(runtime), (options) => runtime.context(options))
      } catch (error) {
        console.error(error instanceof Error ? error.message : 'The function cannot start.')
        return problemResponse(error, crypto.randomUUID())
      }
    }
    return handler(request, invocation)
  }
}

/** A Netlify function: `export default onNetlify(health, policy)`. */
export function onNetlify(routes: FunctionRoutes, policy: Policy, kind: keyof typeof netlifyLimitsMs = 'synchronous') {
  const handle = lazyHandler(policy, routes)
  return {
    fetch: (request: Request, context?: NetlifyContext) =>
      handle(request, netlifyInvocation(context, systemClock.now(), netlifyLimitsMs[kind])),
  }
}

/** A Vercel function: `export default onVercel(health, policy)`; `maxDurationSeconds` as in vercel.json. */
export function onVercel(routes: FunctionRoutes, policy: Policy, maxDurationSeconds = 60) {
  const handle = lazyHandler(policy, routes)
  return { fetch: (request: Request) => handle(request, vercelInvocation(request, systemClock.now(), maxDurationSeconds * 1_000)) }
}
