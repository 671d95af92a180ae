import type { Invocation } from '../serve.ts'

/** The parts of Netlify's function context that are used. https://docs.netlify.com/build/functions/api/ */
export interface NetlifyContext {
  ip?: string
  waitUntil?(work: Promise<unknown>): void
}

/** Synchronous functions end after 60 s, scheduled ones after 30 s, background ones after 15 min. */
export const netlifyLimitsMs = { synchronous: 60_000, scheduled: 30_000, background: 900_000 } as const

export function netlifyInvocation(context: NetlifyContext | undefined, started: Date, limitMs: number): Invocation {
  return {
    clientAddress: context?.ip ?? 'unknown',
    deadline: new Date(started.getTime() + limitMs - 2_000),
    waitUntil: (work) => context?.waitUntil?.(work),
  }
}
