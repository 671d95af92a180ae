import type { HealthCheckPolicy } from '../config/index.ts'
import type { Context } from '../platform/context.ts'
import { type CauseCode, causeOfStatus } from './causes.ts'

export type CheckStatus = 'healthy' | 'unhealthy' | 'not_configured'

/** What a checker found out. */
export interface Finding {
  status: CheckStatus
  cause?: CauseCode
  /** Figures and names for operators: never in the public report. No secrets, no personal data. */
  measures?: Record<string, number | string | readonly string[]>
}

/**
 * Looks at one dependency. Ends soon after `signal` aborts; may throw what its driver throws: the caller turns it into
 * a cause. Must not change anything it does not put back.
 */
export type Checker = (ctx: Context, check: HealthCheckPolicy, signal: AbortSignal) => Promise<Finding>

/** A checker and what holds for it where the policy does not say. */
export interface CheckerKind {
  check: Checker
  critical: boolean
  timeoutMs: number
}

export const healthy = (measures?: Finding['measures']): Finding => ({ status: 'healthy', ...(measures === undefined ? {} : { measures }) })

export const unhealthy = (cause: CauseCode, measures?: Finding['measures']): Finding => ({
  status: 'unhealthy',
  cause,
  ...(measures === undefined ? {} : { measures }),
})

export const notConfigured: Finding = { status: 'not_configured', cause: 'not_configured' }

/** Gives the connection back without reading what nobody needs, and judges the status. */
export async function judgeStatus(
  response: Response,
  expected: (status: number) => boolean = (status) => status >= 200 && status < 300,
): Promise<Finding> {
  await response.body?.cancel()
  return expected(response.status)
    ? healthy({ httpStatus: response.status })
    : unhealthy(causeOfStatus(response.status), { httpStatus: response.status })
}

/** As `judgeStatus`, of an API: where it answers with a page, somebody else answers in its place: a parked domain, a proxy that wants a login. */
export async function judgeApi(response: Response): Promise<Finding> {
  const page = response.status === 200 && /^text\/html\b/i.test(response.headers.get('content-type') ?? '')
  const finding = await judgeStatus(response)
  return page ? unhealthy('bad_answer', { httpStatus: response.status }) : finding
}
