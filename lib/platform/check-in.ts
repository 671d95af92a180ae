import type { Env } from './env.ts'

/*
 * Tells monitors outside that something began, ended or failed. Nothing here throws or waits long: who is told must not
 * decide over what is told.
 */

/** How long one call may take, ms. */
const limitMs = 3_000

type Fetch = typeof globalThis.fetch

export interface SentryCheckIn {
  /** The monitor's name at Sentry, which makes it if there is none. At most 50 of `a-z0-9-_`. */
  slug: string
  /** The run's UUID: the second check-in ends what the first began. */
  id: string
  status: 'in_progress' | 'ok' | 'error'
  durationSeconds?: number
  monitor?: {
    schedule: { type: 'crontab'; value: string } | { type: 'interval'; value: number; unit: 'minute' }
    timezone?: string
    /** Minutes that a check-in may be late, and that a run may take. */
    checkinMargin: number
    maxRuntime: number
  }
}

/**
 * One check-in at Sentry Crons, as an envelope of its own: Sentry's client is not loaded for it.
 * https://develop.sentry.dev/sdk/telemetry/check-ins/
 * @returns whether Sentry took it; true where nothing is to be sent
 */
export async function checkInAtSentry(env: Env, fetch: Fetch, checkIn: SentryCheckIn, now: Date): Promise<boolean> {
  if (env.SENTRY_DSN === undefined || env.SENTRY_CRONS === 'off') return true
  const { slug, id, status, durationSeconds, monitor } = checkIn
  const item = {
    check_in_id: id.replaceAll('-', ''),
    monitor_slug: slug,
    status,
    environment: env.CARETAKER_ENVIRONMENT ?? 'production',
    ...(env.APP_VERSION === undefined ? {} : { release: env.APP_VERSION }),
    ...(durationSeconds === undefined ? {} : { duration: durationSeconds }),
    ...(monitor === undefined
      ? {}
      : {
          monitor_config: {
            schedule: monitor.schedule,
            checkin_margin: monitor.checkinMargin,
            max_runtime: monitor.maxRuntime,
            ...(monitor.timezone === undefined ? {} : { timezone: monitor.timezone }),
          },
        }),
  }
  const envelope = [{ sent_at: now.toISOString() }, { type: 'check_in' }, item].map((line) => JSON.stringify(line)).join('\n')
  return call(fetch, envelopeUrl(env.SENTRY_DSN), {
    method: 'POST',
    headers: { 'content-type': 'application/x-sentry-envelope' },
    body: envelope,
  })
}

/** Where Sentry takes envelopes for a DSN. */
export function envelopeUrl(dsn: string): URL {
  const { protocol, host, username, pathname } = new URL(dsn)
  const [, prefix = '', project = ''] = /^(.*\/)(\d+)$/.exec(pathname) ?? []
  const url = new URL(`${protocol}//${host}${prefix}api/${project}/envelope/`)
  url.searchParams.set('sentry_key', username)
  url.searchParams.set('sentry_version', '7')
  return url
}

/**
 * Calls a heartbeat's address as healthchecks.io wants it: itself for success, `/start` and `/fail` behind it, and the run's
 * UUID as `rid`. https://healthchecks.io/docs/http_api/
 * @returns whether it was taken
 */
export async function ping(fetch: Fetch, address: string, event: 'start' | 'success' | 'fail', runId?: string): Promise<boolean> {
  const url = new URL(address)
  if (event !== 'success') url.pathname = `${url.pathname.replace(/\/$/, '')}/${event}`
  if (runId !== undefined) url.searchParams.set('rid', runId)
  return call(fetch, url, { headers: { 'cache-control': 'no-store' } })
}

async function call(fetch: Fetch, url: URL, init: RequestInit): Promise<boolean> {
  try {
    const response = await fetch(url, { ...init, signal: AbortSignal.timeout(limitMs) })
    await response.body?.cancel()
    return response.ok
  } catch {
    return false
  }
}
