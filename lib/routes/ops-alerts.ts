import * as z from 'zod/mini'
import { alertSources } from '../alert-sources.ts'
import {
  channelNames,
  listAlerts,
  listNotifications,
  listRules,
  listSilences,
  replayRule,
  silence,
  testChannel,
  unsilence,
} from '../alerts/index.ts'
import { durationMs, isDuration } from '../config/index.ts'
import { json, type Route, route } from '../http/index.ts'
import { type Role, roles } from '../platform/actor.ts'

const deciding: readonly Role[] = ['admin', 'developer']

const wholeNumber = (fallback: string) =>
  z._default(z.string().check(z.regex(/^([1-9]\d{0,2}|1000)$/, 'expected a whole number from 1 to 1000')), fallback)
const span = z.string().check(z.refine(isDuration, 'expected a duration such as "2 hours"'))

/** Alerts, silences and channels over HTTP. */
export const opsAlerts = (): Route[] => [
  route({
    methods: ['GET'],
    path: '/api/ops/alerts',
    summary: 'What fires or is about to, the silences that hold, and the channels',
    auth: { operator: roles },
    limit: 'standard',
    async handle(ctx) {
      const [alerts, silences] = [await listAlerts(ctx), await listSilences(ctx)]
      return json({ alerts, silences, channels: channelNames(ctx) })
    },
  }),
  route({
    methods: ['GET'],
    path: '/api/ops/alerts/rules',
    summary: 'Everything that is watched: rules, checks and events',
    auth: { operator: roles },
    limit: 'standard',
    async handle(ctx) {
      return json({ rules: await listRules(ctx, alertSources) })
    },
  }),
  route({
    methods: ['GET'],
    path: '/api/ops/alerts/rules/:rule/replay',
    summary: 'What a rule would have paged over stored history',
    auth: { operator: roles },
    limit: 'sensitive',
    query: z.object({ since: z._default(span, '30 days') }),
    async handle(ctx, { params, query: { since } }) {
      const from = new Date(ctx.clock.now().getTime() - durationMs(since))
      return json({ replay: await replayRule(ctx, alertSources, { rule: params.rule as string, from }) })
    },
  }),
  route({
    methods: ['GET'],
    path: '/api/ops/notifications',
    summary: 'What people were told, or are about to be, newest first',
    auth: { operator: roles },
    limit: 'standard',
    query: z.object({
      limit: wholeNumber('50'),
      incident: z.optional(z.string().check(z.regex(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/, "expected an incident's id"))),
    }),
    async handle(ctx, { query: { limit, incident } }) {
      return json({
        notifications: await listNotifications(ctx, { limit: Number(limit), ...(incident === undefined ? {} : { incident }) }),
      })
    },
  }),
  route({
    methods: ['GET'],
    path: '/api/ops/silences',
    summary: 'The silences of the last 30 days, newest first',
    auth: { operator: roles },
    limit: 'standard',
    async handle(ctx) {
      return json({ silences: await listSilences(ctx, { past: true }) })
    },
  }),
  route({
    methods: ['POST'],
    path: '/api/ops/silences',
    summary: 'Keep alerts that match from opening incidents for a time',
    auth: { operator: deciding },
    limit: 'sensitive',
    body: z.strictObject({ matcher: z.string().check(z.maxLength(1_000)), for: span, reason: z.string().check(z.maxLength(1_000)) }),
    async handle(ctx, { body }) {
      const made = await silence(ctx, { matcher: body.matcher, forMs: durationMs(body.for), reason: body.reason })
      return json({ silence: made }, { status: 201 })
    },
  }),
  route({
    methods: ['DELETE'],
    path: '/api/ops/silences/:silence',
    summary: 'End a silence before its time',
    auth: { operator: deciding },
    limit: 'sensitive',
    async handle(ctx, { params }) {
      return json({ silence: await unsilence(ctx, params.silence as string) })
    },
  }),
  route({
    methods: ['POST'],
    path: '/api/ops/channels/:channel/test',
    summary: 'Send a test message on a channel',
    auth: { operator: deciding },
    limit: 'sensitive',
    async handle(ctx, { params }) {
      return json(await testChannel(ctx, params.channel as string))
    },
  }),
]
