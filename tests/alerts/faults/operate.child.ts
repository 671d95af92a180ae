/*
 * Looks, judges and tells, minute after minute of a clock that runs six hundred times as fast as the system's, until it is killed.
 * Arguments: database, receiver of what is told, dependency, environment, when the clock was started.
 */
import { openDatabase } from '../../../lib/platform/db.ts'
import { pagerDutyState } from '../../doubles/pagerduty.ts'
import { operationsContext, steps } from './operations.ts'

const [databaseUrl = '', receiver = '', dependency = '', environment = '', startedAt = ''] = process.argv.slice(2)
const began = Date.parse('2026-11-23T10:00:00Z')
const speed = 600

const ctx = operationsContext(openDatabase({ sessionUrl: databaseUrl }), environment, pagerDutyState().routingKey, {
  health: { checks: { app: { kind: 'url', url: dependency, timeoutMs: 20_000 } }, confirmAfterMs: 0 },
  alerts: { channels: { slack: {}, pagerduty: {} }, keepFiringFor: '1 minute', remindEvery: '30 days' },
})
const clock = {
  now: () => new Date(began + (Date.now() - Number(startedAt)) * speed),
  monotonicMs: () => performance.now(),
}

process.stdout.write('ready')
for (;;) {
  // A minute is a tenth of a second of the system's clock.
  const next = new Promise((resolve) => setTimeout(resolve, 60_000 / speed))
  for (const step of Object.values(steps))
    await step({
      ...ctx,
      clock,
      deadline: new Date(clock.now().getTime() + 24 * 3_600_000),
      fetch: (input, init = {}) => {
        const url = new URL(String(input))
        if (url.hostname === '127.0.0.1') return fetch(url, init)
        return fetch(receiver + url.pathname, { ...init, headers: { ...init.headers, 'x-host': url.host } })
      },
    })
  await next
}
