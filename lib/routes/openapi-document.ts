import * as z from 'zod/mini'
import { type Authentication, type Route, statusOf } from '../http/index.ts'

/** Security schemes by how a route is authenticated. https://spec.openapis.org/oas/v3.1.0 */
const securityOf = (auth: Authentication): Record<string, string[]>[] => {
  if (auth === 'public' || auth === 'signature') return []
  if (auth === 'cron') return [{ cronSecret: [] }]
  if ('session' in auth) return []
  return 'subject' in auth ? [{ supabase: [] }, { operatorKey: [] }] : [{ operatorKey: [] }, { supabase: [] }]
}

export function describeApi(routes: readonly Route[], title: string): Record<string, unknown> {
  const paths: Record<string, Record<string, unknown>> = {}
  for (const route of routes) {
    // Pages are for people.
    if (route.problem !== undefined) continue
    const path = route.path.replaceAll(/:(\w+)/g, '{$1}')
    const parameters: unknown[] = [...route.path.matchAll(/:(\w+)/g)].map(([, name]) => ({
      name,
      in: 'path',
      required: true,
      schema: { type: 'string' },
    }))
    if (route.query !== undefined) {
      const { properties = {}, required = [] } = z.toJSONSchema(route.query, { io: 'input' }) as {
        properties?: Record<string, unknown>
        required?: string[]
      }
      for (const [name, schema] of Object.entries(properties))
        parameters.push({ name, in: 'query', required: required.includes(name), schema })
    }
    for (const method of route.methods) {
      const operation: Record<string, unknown> = {
        operationId: `${method.toLowerCase()}${path.replaceAll(/[^A-Za-z0-9]+(\w?)/g, (_all, letter: string) => letter.toUpperCase())}`,
        summary: route.summary,
        parameters,
        security: securityOf(route.auth),
        responses: {
          '2XX': { description: 'Done.' },
          default: {
            description: 'A problem.',
            content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } },
          },
        },
      }
      if (route.body === 'bytes') operation.requestBody = { required: true, content: { '*/*': {} } }
      else if (route.body !== undefined && !('form' in route.body))
        operation.requestBody = { required: true, content: { 'application/json': { schema: z.toJSONSchema(route.body, { io: 'input' }) } } }
      paths[path] = { ...paths[path], [method.toLowerCase()]: operation }
    }
  }
  return {
    openapi: '3.1.0',
    info: { title: `${title}: operations`, version: '1' },
    paths,
    components: {
      securitySchemes: {
        cronSecret: { type: 'http', scheme: 'bearer', description: 'CRON_SECRET' },
        operatorKey: { type: 'http', scheme: 'bearer', description: 'A key from `caretaker keys create`' },
        supabase: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT', description: 'A Supabase access token' },
      },
      schemas: {
        Problem: {
          type: 'object',
          description: 'RFC 9457',
          required: ['type', 'title', 'status', 'detail', 'code', 'instance'],
          properties: {
            type: { type: 'string' },
            title: { type: 'string' },
            status: { type: 'integer' },
            detail: { type: 'string' },
            code: { enum: Object.keys(statusOf) },
            instance: { type: 'string' },
            issues: { type: 'array', items: { type: 'object', properties: { path: { type: 'string' }, message: { type: 'string' } } } },
          },
        },
      },
    },
  }
}
