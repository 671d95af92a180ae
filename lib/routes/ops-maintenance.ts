import * as z from 'zod/mini'
import { endMaintenance, listMaintenance, scheduleMaintenance } from '../health/index.ts'
import { json, type Route, route } from '../http/index.ts'
import { roles } from '../platform/actor.ts'

const timeExpected = 'expected a time with its zone such as "2026-12-01T02:00Z"'
const time = z.pipe(
  z.string().check(
    z.regex(/^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)$/, timeExpected),
    z.refine((text) => !Number.isNaN(Date.parse(text)), timeExpected),
  ),
  z.transform((text: string) => new Date(text)),
)
const days = z._default(z.string().check(z.regex(/^[1-9]\d{0,2}$/, 'expected a whole number from 1 to 999')), '30')

/** Maintenance windows over HTTP. */
export const opsMaintenance = (): Route[] => [
  route({
    methods: ['GET'],
    path: '/api/ops/maintenance',
    summary: 'Maintenance windows that are open or come in the next days',
    auth: { operator: roles },
    limit: 'standard',
    query: z.object({ days }),
    async handle(ctx, { query }) {
      const from = ctx.clock.now()
      return json({ windows: await listMaintenance(ctx, { from, to: new Date(from.getTime() + Number(query.days) * 86_400_000) }) })
    },
  }),
  route({
    methods: ['POST'],
    path: '/api/ops/maintenance',
    summary: 'Announce maintenance',
    auth: { operator: ['admin', 'developer'] },
    limit: 'sensitive',
    body: z.strictObject({
      title: z.string(),
      body: z.optional(z.string()),
      components: z.optional(z.array(z.string())),
      startsAt: z.optional(time),
      endsAt: time,
    }),
    async handle(ctx, { body }) {
      const { title, endsAt, ...more } = body
      return json(await scheduleMaintenance(ctx, { title, endsAt, ...present(more) }), { status: 201 })
    },
  }),
  route({
    methods: ['POST'],
    path: '/api/ops/maintenance/:window/end',
    summary: 'End a maintenance window now, or call it off',
    auth: { operator: ['admin', 'developer'] },
    limit: 'sensitive',
    async handle(ctx, { params }) {
      await endMaintenance(ctx, params.window as string)
      return json({ ended: true })
    },
  }),
]

/** Without what is undefined: absent and undefined are not the same to a verb. */
function present<T extends object>(given: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>
  }
}
