import {
  checkAnswer,
  checkOne,
  type HealthReport,
  healthAnswer,
  live,
  ready,
  reportHealth,
  serviceHealth,
  toHealthJson,
} from '../health/index.ts'
import { json, type Route, route } from '../http/index.ts'
import { roles } from '../platform/actor.ts'

const publicGet = { methods: ['GET'], auth: 'public', limit: 'standard' } as const

/** `/health` and what is below it. Anyone may ask; what would help an attacker takes an operator's key. */
export const health = (): Route[] => [
  route({
    ...publicGet,
    path: '/health',
    summary: 'The health of everything the policy checks',
    async handle(ctx, { request }) {
      return answerReport((await reportHealth(ctx)).report, request)
    },
  }),
  route({
    ...publicGet,
    // Counting would touch what the limiter stands on.
    limit: 'none',
    path: '/health/live',
    summary: 'The process answers; touches nothing',
    async handle(ctx) {
      return json(live(ctx))
    },
  }),
  route({
    ...publicGet,
    path: '/health/ready',
    summary: 'The critical checks alone',
    async handle(ctx, { request }) {
      return answerReport((await ready(ctx)).report, request)
    },
  }),
  route({
    methods: ['GET'],
    path: '/health/detailed',
    summary: 'Every result with its measures',
    auth: { operator: roles },
    limit: 'standard',
    async handle(ctx) {
      const { report, results } = await reportHealth(ctx)
      return json(
        { ...report, checks: Object.fromEntries(results.map((result) => [result.name, result])) },
        { ...healthAnswer(report.status), headers: { 'cache-control': 'no-store' } },
      )
    },
  }),
  route({
    ...publicGet,
    path: '/health/:check',
    summary: 'One check',
    async handle(ctx, { params }) {
      const result = await checkOne(ctx, params.check as string)
      return json({ name: result.name, ...serviceHealth(result), timestamp: result.checkedAt }, checkAnswer(result))
    },
  }),
]

function answerReport(report: HealthReport, request: Request): Response {
  const answer = healthAnswer(report.status)
  const headers = { ...answer.headers, vary: 'accept' }
  if (!(request.headers.get('accept') ?? '').includes('application/health+json')) return json(report, { ...answer, headers })
  return json(toHealthJson(report), { ...answer, headers: { ...headers, 'content-type': 'application/health+json' } })
}
