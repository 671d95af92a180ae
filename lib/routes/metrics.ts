import { json, type Route, route } from '../http/index.ts'
import { ingestBody, ingestMetrics, metricsDashboard, missingTables, prometheusContentType, prometheusText } from '../metrics/index.ts'
import { roles } from '../platform/actor.ts'

/** Figures say much about an app: who reads them has an operator's key, or the one that is for this alone. */
const readers = { operator: roles, key: 'METRICS_KEY' } as const
const notStored = { 'cache-control': 'no-store' }

/** `/metrics` and what is below it. */
export const metrics = (): Route[] => [
  route({
    methods: ['GET'],
    path: '/metrics',
    summary: 'Every metric, in the text format of Prometheus',
    auth: readers,
    limit: 'standard',
    async handle(ctx) {
      return new Response(await prometheusText(ctx).catch(missingTables), {
        headers: { ...notStored, 'content-type': prometheusContentType },
      })
    },
  }),
  route({
    methods: ['GET'],
    path: '/metrics/dashboard',
    summary: "The app's figures at a glance; null is not measured",
    auth: readers,
    limit: 'standard',
    async handle(ctx) {
      return json(await metricsDashboard(ctx), { headers: notStored })
    },
  }),
  route({
    methods: ['POST'],
    path: '/metrics/ingest',
    summary: 'Count what the app tells of itself: counters, gauges, observations',
    auth: { operator: ['admin', 'developer'], key: 'METRICS_KEY' },
    // Every instance of an app tells its own.
    limit: 'none',
    body: ingestBody,
    async handle(ctx, { body }) {
      return json(await ingestMetrics(ctx, body).catch(missingTables), { status: 202 })
    },
  }),
]
