import { canonicalName, nearest } from '../config/index.ts'
import type { Context } from '../platform/context.ts'
import { environmentOf } from '../platform/environment.ts'
import { CaretakerError } from '../platform/errors.ts'
import { caretakerVersion } from '../platform/version.ts'
import type { CauseCode } from './causes.ts'
import { type Check, policyChecks, resolveCheck } from './check.ts'
import type { CheckStatus } from './checker.ts'
import { checkerKinds } from './checkers/index.ts'
import { currentResults, freshResults } from './current-results.ts'
import type { CheckResult } from './run-check.ts'

export type HealthStatus = 'healthy' | 'degraded' | 'unhealthy'

/** What `GET /health` says of one check: public. */
export interface ServiceHealth {
  status: CheckStatus
  /** Milliseconds. */
  response_time: number
  critical: boolean
  cause?: CauseCode
}

/** `GET /health`. */
export interface HealthReport {
  status: HealthStatus
  /** When the oldest of the results was taken, ISO 8601. */
  timestamp: string
  version: string
  /** Seconds since this instance started. */
  uptime: number
  environment: string
  services: Record<string, ServiceHealth>
  performance: {
    /** Bytes. */
    memory: NodeJS.MemoryUsage
    /** Microseconds of this process. */
    cpu: NodeJS.CpuUsage
    /** Connections to the database server, by its own count; null where it did not answer or is not checked. */
    activeConnections: number | null
  }
}

/** The report with what only operators may see. */
export interface DetailedReport {
  report: HealthReport
  results: readonly CheckResult[]
}

export interface ReportInput {
  /** Only these checks of the policy. */
  only?: readonly string[]
  /** Look now rather than serve a result a few seconds old. */
  fresh?: boolean
}

/**
 * The health of everything the policy checks, all at once, in the time of the slowest.
 * @throws {CaretakerError} `not_found` for a name in `only` that is no check; failing checks are in the report
 */
export async function reportHealth(ctx: Context, input: ReportInput = {}): Promise<DetailedReport> {
  const all = policyChecks(ctx.config, ctx.env)
  const checks = input.only === undefined ? all : input.only.map((name) => findCheck(all, name))
  return assemble(ctx, checks, input.fresh === true)
}

/** Only what is critical: may this instance be sent requests? */
export function ready(ctx: Context): Promise<DetailedReport> {
  return assemble(
    ctx,
    policyChecks(ctx.config, ctx.env).filter((check) => check.critical),
    false,
  )
}

/**
 * One check, by its name in the policy or, where the policy has none of that name, by its kind. A check that is not
 * configured is then the answer: `unhealthy` as a whole only where the dependency fails.
 * @throws {CaretakerError} `not_found`, with the nearest name
 */
export async function checkOne(ctx: Context, name: string, input: { fresh?: boolean } = {}): Promise<CheckResult> {
  const check = findCheck(policyChecks(ctx.config, ctx.env), name)
  const [result] = await (input.fresh === true ? freshResults : currentResults)(ctx, [check])
  if (result === undefined) throw new CaretakerError('internal', 'A check ended without a result.')
  return result
}

/** The process answers. Touches nothing. */
export function live(ctx: Pick<Context, 'clock' | 'env'>): Pick<HealthReport, 'status' | 'timestamp' | 'version' | 'uptime'> {
  return { status: 'healthy', timestamp: ctx.clock.now().toISOString(), version: version(ctx), uptime: uptimeSeconds() }
}

/**
 * The canonical name of a check of the policy.
 * @throws {CaretakerError} `not_found`, with the nearest name
 */
export function checkNamed(ctx: Pick<Context, 'config' | 'env'>, name: string): string {
  return canonicalName(findCheck(policyChecks(ctx.config, ctx.env), name).name)
}

function findCheck(all: readonly Check[], name: string): Check {
  const wanted = canonicalName(name)
  const listed = all.find((check) => check.name === name) ?? all.find((check) => canonicalName(check.name) === wanted)
  if (listed !== undefined) return listed
  if (checkerKinds.has(wanted) && wanted !== 'url') return resolveCheck(wanted, {})
  const near = nearest(wanted, [...all.map((check) => check.name), ...checkerKinds.keys()])
  throw new CaretakerError(
    'not_found',
    `There is no health check of that name.${near === undefined ? '' : ` Did you mean "${near}"?`} Checks: ${all.map((check) => check.name).join(', ')}.`,
  )
}

async function assemble(ctx: Context, checks: readonly Check[], fresh: boolean): Promise<DetailedReport> {
  const results = await (fresh ? freshResults : currentResults)(ctx, checks)
  const connections = results.find((result) => result.measures?.connections !== undefined)?.measures?.connections
  const report: HealthReport = {
    status: overall(results),
    timestamp: results.map((result) => result.checkedAt).sort()[0] ?? ctx.clock.now().toISOString(),
    version: version(ctx),
    uptime: uptimeSeconds(),
    environment: environmentOf(ctx),
    services: Object.fromEntries(results.map((result) => [result.name, serviceHealth(result)])),
    performance: {
      memory: process.memoryUsage(),
      cpu: process.cpuUsage(),
      activeConnections: typeof connections === 'number' ? connections : null,
    },
  }
  return { report, results }
}

/** A critical failure makes the whole unhealthy, another one degraded; what is not configured counts as neither. */
export function overall(results: readonly Pick<CheckResult, 'status' | 'critical'>[]): HealthStatus {
  const failed = results.filter((result) => result.status === 'unhealthy')
  if (failed.some((result) => result.critical)) return 'unhealthy'
  return failed.length > 0 ? 'degraded' : 'healthy'
}

/** The public part of a result. */
export function serviceHealth(result: CheckResult): ServiceHealth {
  return {
    status: result.status,
    response_time: result.durationMs,
    critical: result.critical,
    ...(result.cause === undefined ? {} : { cause: result.cause }),
  }
}

function version(ctx: Pick<Context, 'env'>): string {
  return ctx.env.APP_VERSION ?? caretakerVersion
}

function uptimeSeconds(): number {
  return Math.round(process.uptime() * 10) / 10
}
