import * as z from 'zod/mini'
import {
  acknowledgeIncident,
  addNote,
  checkItem,
  type Incident,
  incidentStates,
  listIncidents,
  nextPage,
  notifyWaits,
  openIncident,
  postmortem,
  resolveIncident,
  setSeverity,
  severityMatrix,
  showIncident,
  updateIncident,
} from '../alerts/index.ts'
import { json, type Route, route } from '../http/index.ts'
import { claimIfIdle } from '../jobs/index.ts'
import { type Role, roles } from '../platform/actor.ts'
import type { Context } from '../platform/context.ts'
import { type Wake, wakeWorker } from './wake-worker.ts'

/** Support answers for what is known and says so; what an incident is, and whether it is over, developers decide. */
const answering: readonly Role[] = ['admin', 'developer', 'support']
const deciding: readonly Role[] = ['admin', 'developer']

const title = z.string().check(z.maxLength(1_000))
const text = z.string().check(z.maxLength(20_000))

/** Incidents over HTTP: `:incident` is a number or an id. */
export const opsIncidents = ({ wake = wakeWorker }: { wake?: Wake } = {}): Route[] => {
  /** What `verb` did to the incident; people are told after the answer, as far as the host allows, or at the next tick. */
  function change<B extends z.ZodMiniType>(
    path: string,
    summary: string,
    operator: readonly Role[],
    body: B,
    verb: (ctx: Context, incident: string, body: z.output<B>) => Promise<Incident>,
  ): Route {
    return route({
      methods: ['POST'],
      path: `/api/ops/incidents/:incident/${path}`,
      summary,
      auth: { operator },
      limit: 'sensitive',
      body: body as z.ZodMiniType<z.output<B>>,
      async handle(ctx, { params, body: given, afterwards }) {
        const incident = await verb(ctx, params.incident as string, given as z.output<B>)
        afterwards(notifySoon(ctx, wake))
        return json({ incident })
      },
    })
  }

  return [
    route({
      methods: ['GET'],
      path: '/api/ops/incidents',
      summary: 'Incidents, open ones first, and the severities there are',
      auth: { operator: roles },
      limit: 'standard',
      query: z.object({
        state: z._default(z.enum(['open', 'resolved', 'all']), 'all'),
        limit: z._default(z.string().check(z.regex(/^([1-9]\d{0,2}|1000)$/, 'expected a whole number from 1 to 1000')), '50'),
        before: z.optional(z.string().check(z.regex(/^[1-9]\d{0,8}$/, "expected an incident's number"))),
        beforeState: z._default(z.enum(['open', 'resolved']), 'resolved'),
      }),
      async handle(ctx, { query: { state, limit, before, beforeState } }) {
        const incidents = await listIncidents(ctx, {
          state,
          limit: Number(limit),
          ...(before === undefined ? {} : { before: Number(before), beforeState }),
        })
        return json({ incidents, next: nextPage(incidents, Number(limit)), severities: severityMatrix(ctx.config) })
      },
    }),
    route({
      methods: ['POST'],
      path: '/api/ops/incidents',
      summary: 'Open an incident by hand',
      auth: { operator: deciding },
      limit: 'sensitive',
      body: z.strictObject({
        title,
        severity: z.string().check(z.maxLength(60)),
        component: z.optional(z.string().check(z.maxLength(100))),
        affected: z.optional(z.array(z.string().check(z.maxLength(100))).check(z.maxLength(50))),
        public: z.optional(z.boolean()),
        publicTitle: z.optional(title),
        message: z.optional(text),
      }),
      async handle(ctx, { body, afterwards }) {
        const incident = await openIncident(ctx, body)
        afterwards(notifySoon(ctx, wake))
        return json({ incident }, { status: 201 })
      },
    }),
    route({
      methods: ['GET'],
      path: '/api/ops/incidents/:incident',
      summary: 'An incident with its alerts and its timeline',
      auth: { operator: roles },
      limit: 'standard',
      async handle(ctx, { params }) {
        return json(await showIncident(ctx, params.incident as string))
      },
    }),
    route({
      methods: ['GET'],
      path: '/api/ops/incidents/:incident/postmortem',
      summary: 'A post-mortem as Markdown, filled in from the timeline',
      auth: { operator: roles },
      limit: 'standard',
      async handle(ctx, { params }) {
        return new Response(await postmortem(ctx, params.incident as string), {
          headers: {
            'content-type': 'text/markdown; charset=utf-8',
            'content-disposition': 'attachment; filename="postmortem.md"',
            'cache-control': 'no-store',
          },
        })
      },
    }),
    change(
      'acknowledge',
      'Take the incident on: no reminders and no escalation after this',
      answering,
      z.strictObject({}),
      (ctx, incident) => acknowledgeIncident(ctx, { incident }),
    ),
    change(
      'update',
      'Move it on, and say so to the public',
      answering,
      z.strictObject({
        state: z.optional(z.enum(incidentStates.filter((one) => one !== 'resolved'))),
        message: z.optional(text),
        public: z.optional(z.boolean()),
        publicTitle: z.optional(title),
        rootCause: z.optional(text),
      }),
      (ctx, incident, body) => updateIncident(ctx, { incident, ...body }),
    ),
    change(
      'severity',
      'Make it more or less severe',
      deciding,
      z.strictObject({ severity: z.string().check(z.maxLength(60)), reason: z.optional(text) }),
      (ctx, incident, body) => setSeverity(ctx, { incident, ...body }),
    ),
    change(
      'check',
      'Tick off an item of its checklist, or take the tick back',
      answering,
      z.strictObject({ item: z.int(), done: z.optional(z.boolean()) }),
      (ctx, incident, body) => checkItem(ctx, { incident, ...body }),
    ),
    change('note', 'Add to the timeline what only operators read', answering, z.strictObject({ note: text }), (ctx, incident, { note }) =>
      addNote(ctx, { incident, note }),
    ),
    change(
      'resolve',
      'End it, and tell everybody who was told of it',
      deciding,
      z.strictObject({ message: z.optional(text), rootCause: z.optional(text) }),
      (ctx, incident, body) => resolveIncident(ctx, { incident, ...body }),
    ),
  ]
}

/** Wakes the sender where something is to be told; its loss does not matter, every tick looks there. */
async function notifySoon(ctx: Context, wake: Wake): Promise<void> {
  if ((await notifyWaits(ctx)) && (await claimIfIdle({ ...ctx, actor: { type: 'system' } }, 'notify'))) await wake(ctx)
}
