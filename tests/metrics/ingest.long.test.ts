import { expect, it } from 'vitest'
import { metrics } from '../../lib/routes/metrics.ts'
import { logLines } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'
import fc from '../support/fast-check.ts'
import { testServer } from '../support/serve.ts'
import { parsePrometheus } from './prometheus-text.ts'
import { metricsContext } from './support.ts'

const test = useTestDatabase()
const key = 'a-key-for-metrics-alone'

const odd = fc.oneof(
  fc.string(),
  fc.string({ unit: 'binary' }),
  fc.constantFrom('', '\u0000', '__proto__', 'constructor', 'le', 'http_requests_total', 'x'.repeat(200), '1e999', '\ud800'),
)
const number = fc.oneof(
  fc.double({ noNaN: true, noDefaultInfinity: true }),
  fc.integer(),
  fc.constantFrom(0, -0, 1e308, -1e308, 5e-324, Number.MAX_SAFE_INTEGER),
)
const name = fc.oneof({ weight: 4, arbitrary: fc.constantFrom('a_total', 'b_gauge', 'c_seconds', 'd_total') }, odd)
const item = fc.record(
  {
    name,
    type: fc.oneof({ weight: 6, arbitrary: fc.constantFrom('counter', 'gauge', 'histogram') }, odd),
    value: fc.oneof({ weight: 8, arbitrary: number }, odd, fc.constant(null)),
    values: fc.array(number, { maxLength: 5 }),
    labels: fc.dictionary(fc.oneof(fc.constantFrom('status', 'route', 'x'), odd), fc.oneof(odd, fc.constantFrom('200', '5xx')), {
      maxKeys: 4,
    }),
    at: fc.oneof(fc.constantFrom('2026-11-21T11:59:00Z', '2026-02-31T00:00:00Z', '+275760-09-13T00:00:00.001Z'), odd),
    everySeconds: fc.oneof(fc.integer(), number),
    unit: odd,
    help: odd,
  },
  { requiredKeys: ['name', 'type'] },
)

/** Nothing wrong with its form: what is odd is in its values. */
const near = fc.oneof(
  ...(['counter', 'gauge', 'histogram'] as const).map((type) =>
    fc.record(
      {
        name: fc.constant(`near_${type}`),
        type: fc.constant(type),
        value: type === 'counter' ? number.map(Math.abs) : number,
        labels: fc.dictionary(fc.constantFrom('status', 'route'), odd),
        unit: odd,
        help: odd,
      },
      { requiredKeys: ['name', 'type', 'value'] },
    ),
  ),
)

it('takes a body or refuses it by name, whatever it is; what was taken can be scraped', async () => {
  const statuses = new Map<number, number>()
  await fc.assert(
    fc.asyncProperty(
      fc.oneof(
        {
          weight: 8,
          arbitrary: fc.record({ metrics: fc.array(fc.oneof({ weight: 3, arbitrary: near }, item), { minLength: 1, maxLength: 3 }) }),
        },
        fc.jsonValue(),
      ),
      async (body) => {
        const ctx = metricsContext(test.db, { env: { METRICS_KEY: key } })
        const server = testServer(metrics(), ctx)
        const authorization = `Bearer ${key}`
        const response = await server.request('/metrics/ingest', {
          method: 'POST',
          headers: { authorization, 'content-type': 'application/json' },
          body: JSON.stringify(body),
        })
        statuses.set(response.status, (statuses.get(response.status) ?? 0) + 1)
        expect([202, 400, 409, 422], logLines(ctx).join('\n')).toContain(response.status)
        if (response.status === 202) parsePrometheus(await (await server.request('/metrics', { headers: { authorization } })).text())
      },
    ),
    { numRuns: 400 },
  )
  expect(statuses.get(202) ?? 0).toBeGreaterThan(5)
}, 600_000)
