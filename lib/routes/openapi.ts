import { json, type Route, route } from '../http/index.ts'
import { describeApi } from './openapi-document.ts'

/** The API in OpenAPI 3.1. */
export const openapi = (): Route[] => [
  route({
    methods: ['GET'],
    path: '/openapi.json',
    summary: 'This API, described',
    auth: 'public',
    limit: 'standard',
    async handle(ctx) {
      const { allRoutes } = await import('./index.ts')
      return json(describeApi(allRoutes(), ctx.config.app.name), { headers: { 'cache-control': 'public, max-age=300' } })
    },
  }),
]
