import * as z from 'zod/mini'
import { silenceHours } from '../../../pages/ops/alerts.ts'
import { admins, builders, helpers, keepers } from '../../../pages/ops/shell.ts'
import { actorText, counted } from '../../../pages/parts.ts'
import { dayText, instantText } from '../../../pages/time.ts'
import { alertSources } from '../../alert-sources.ts'
import {
  acknowledgeIncident,
  addNote,
  checkItem,
  type Incident,
  incidentStates,
  listRules,
  matchesAll,
  openIncident,
  resolveIncident,
  setSeverity,
  silence,
  testChannel,
  unsilence,
  updateIncident,
} from '../../alerts/index.ts'
import { findJob, jobs } from '../../catalog.ts'
import { approveRequest, extendRequest, refuseRequest } from '../../gdpr/requests/decide.ts'
import { getRequest } from '../../gdpr/requests/request.ts'
import { endMaintenance, scheduleMaintenance } from '../../health/index.ts'
import { revokeKey } from '../../http/index.ts'
import { claimIfIdle, claimManually } from '../../jobs/index.ts'
import type { Actor } from '../../platform/actor.ts'
import type { Context } from '../../platform/context.ts'
import { CaretakerError, hasCode } from '../../platform/errors.ts'
import { redeliver, replayDead, replayEvents } from '../../webhooks/index.ts'
import type { Wake } from '../wake-worker.ts'
import { type ActionRoute, actionOn } from './action.ts'
import type { PageRoute } from './page.ts'

/** A field that may be left empty is then not given. */
const optional = (most: number) =>
  z.optional(
    z.pipe(
      z.string().check(z.maxLength(most)),
      z.transform((text) => (text.trim() === '' ? undefined : text)),
    ),
  )
const required = (most: number) => z.string().check(z.minLength(1, 'expected something'), z.maxLength(most))
const longText = 20_000
/** What a request has the time for; the rest takes another press. */
const deadAtOnce = 500
const reason = z.strictObject({ reason: z.string().check(z.minLength(3, 'expected at least 3 characters'), z.maxLength(500)) })

/** What an operator does in a browser: each a form, audited by its verb, ending at a page that says what was done. */
export const actions = ({ wake, pages }: { wake: Wake; pages: readonly PageRoute[] }): ActionRoute[] => {
  const action = actionOn(pages)
  /** Work of a job waits now; the loss of this does not matter, every tick looks there. */
  async function soon(ctx: Context, job: string): Promise<void> {
    if (!jobs(ctx.config).some(({ name }) => name === job)) return
    if (await claimIfIdle({ ...ctx, actor: { type: 'system' } }, job)) await wake(ctx)
  }

  /** What `verb` does to an incident; people are told after the answer. */
  function incident<S extends z.ZodMiniType>(
    path: string,
    summary: string,
    roles: typeof helpers,
    fields: S,
    verb: (ctx: Context, incident: string, fields: z.infer<S>) => Promise<Incident>,
    done: (incident: Incident, ctx: Context) => string,
    typed = true,
  ): ActionRoute {
    const page = (params: Record<string, string>) => `/ops/incidents/${encodeURIComponent(params.incident ?? '')}`
    return action({
      path: `/ops/incidents/:incident/${path}`,
      summary,
      roles,
      fields,
      back: page,
      ...(typed ? { typedOn: page } : {}),
      async act(ctx, { params, fields: given, afterwards }) {
        const changed = await verb(ctx, params.incident as string, given)
        afterwards(soon(ctx, 'notify'))
        return done(changed, ctx)
      },
    })
  }

  return [
    action({
      path: '/ops/jobs/:job/run',
      summary: 'Run a job now, beside its schedule',
      roles: builders,
      fields: z.strictObject({ back: z.optional(z.enum(['backups', 'health'])) }),
      back: () => '/ops/jobs',
      async act(ctx, { params, fields, afterwards }) {
        const { name } = findJob(jobs(ctx.config), params.job as string)
        await claimManually(ctx, name)
        afterwards(wake(ctx))
        return { text: `${name} is queued; it begins within seconds.`, to: `/ops/${fields.back ?? 'jobs'}` }
      },
    }),
    action({
      path: '/ops/webhooks/events/:event/replay',
      summary: 'Apply a dead event again',
      roles: helpers,
      back: () => '/ops/webhooks',
      async act(ctx, { params, afterwards }) {
        const [replayed] = await replayEvents(ctx, [number(params.event)])
        afterwards(soon(ctx, 'webhooks'))
        return `Event ${replayed?.id ?? ''} (${replayed?.type ?? ''}) is due again.`
      },
    }),
    action({
      path: '/ops/webhooks/replay-dead',
      summary: 'Apply every dead event again',
      roles: helpers,
      back: () => '/ops/webhooks',
      async act(ctx, { afterwards }) {
        const { replayed, left, pruned } = await replayDead(ctx, deadAtOnce)
        afterwards(soon(ctx, 'webhooks'))
        return [
          `${counted(replayed, 'event')} due again.`,
          ...(left > 0 ? [`${left} more can be replayed: press again.`] : []),
          ...(pruned > 0 ? [`${pruned} cannot be replayed: what they held was pruned.`] : []),
        ].join(' ')
      },
    }),
    action({
      path: '/ops/webhooks/deliveries/:delivery/replay',
      summary: 'Send a dead message again',
      roles: helpers,
      back: () => '/ops/webhooks',
      async act(ctx, { params, afterwards }) {
        const [due] = await redeliver(ctx, [number(params.delivery)])
        afterwards(soon(ctx, 'webhooks-deliver'))
        return `Message ${due?.id ?? ''} to ${due?.subscriber ?? ''} is due again.`
      },
    }),
    action({
      path: '/ops/gdpr/:request/approve',
      summary: 'Let a request be carried out that waits for a review',
      roles: keepers,
      back: requestPage,
      async act(ctx, { params, afterwards }) {
        const request = params.request as string
        try {
          await approveRequest(ctx, request)
        } catch (error) {
          const told = hasCode(error, 'conflict') && (await getRequest(ctx, request)).review === 'approved'
          if (told) return { text: 'It was approved before.', to: requestPage(params), tone: 'none' }
          throw error
        }
        afterwards(soon(ctx, 'gdpr'))
        return 'Approved: it is carried out now.'
      },
    }),
    action({
      path: '/ops/gdpr/:request/extend',
      summary: 'Two months more, once, with the reason that the person is told',
      roles: keepers,
      fields: reason,
      back: requestPage,
      typedOn: requestPage,
      async act(ctx, { params, fields }) {
        const { dueAt } = await extendRequest(ctx, params.request as string, fields.reason)
        return `Extended: it is due on ${dayText(dueAt, ctx.config.app.timezone ?? 'UTC')}.`
      },
    }),
    action({
      path: '/ops/gdpr/:request/refuse',
      summary: 'End a request with the reason that the person is told',
      roles: keepers,
      fields: reason,
      back: requestPage,
      typedOn: (params) => `${requestPage(params)}/refuse`,
      async act(ctx, { params, fields }) {
        await refuseRequest(ctx, params.request as string, fields.reason)
        return 'Refused. The person must be told why, and of their right to complain.'
      },
    }),
    action({
      path: '/ops/incidents',
      summary: 'Open an incident by hand',
      roles: builders,
      fields: z.strictObject({ title: required(1_000), severity: required(60), component: optional(100), message: optional(longText) }),
      back: () => '/ops/incidents',
      typedOn: () => '/ops/incidents',
      async act(ctx, { fields, afterwards }) {
        const { number: opened, id } = await openIncident(ctx, fields)
        afterwards(soon(ctx, 'notify'))
        return { text: `Incident ${opened} is open.`, to: `/ops/incidents/${id}` }
      },
    }),
    incident(
      'acknowledge',
      'Take the incident on',
      helpers,
      z.strictObject({}),
      (ctx, named) => acknowledgeIncident(ctx, { incident: named }),
      ({ number: acknowledged, acknowledgedBy }, { actor }) =>
        sameActor(acknowledgedBy, actor)
          ? `Incident ${acknowledged} is acknowledged: no reminder and no escalation after this.`
          : `Incident ${acknowledged} was acknowledged before, by ${actorText(acknowledgedBy)}: it stays theirs.`,
      false,
    ),
    incident(
      'update',
      'Move it on, and say so',
      helpers,
      z.strictObject({
        state: z.enum(incidentStates.filter((one) => one !== 'resolved')),
        message: optional(longText),
        public: z.enum(['yes', 'no']),
        publicTitle: optional(1_000),
      }),
      (ctx, named, { public: shown, ...fields }) => updateIncident(ctx, { incident: named, ...fields, public: shown === 'yes' }),
      ({ number: updated, state }) => `Incident ${updated} is ${state}.`,
    ),
    incident(
      'root-cause',
      'Write the root cause down, also after the end',
      helpers,
      z.strictObject({ rootCause: required(longText) }),
      (ctx, named, { rootCause }) => updateIncident(ctx, { incident: named, rootCause }),
      () => 'The root cause is written down.',
    ),
    incident(
      'severity',
      'Make it more or less severe',
      builders,
      z.strictObject({ severity: required(60), reason: optional(500) }),
      (ctx, named, fields) => setSeverity(ctx, { incident: named, ...fields }),
      ({ number: changed, severity }) => `Incident ${changed} has severity ${severity}.`,
    ),
    incident(
      'check',
      'Tick off an item of its checklist, or take the tick back',
      helpers,
      z.strictObject({ item: z.string().check(z.regex(/^[1-9]\d?$/, 'expected a number')), done: z.enum(['yes', 'no']) }),
      (ctx, named, { item, done }) => checkItem(ctx, { incident: named, item: Number(item), done: done === 'yes' }),
      ({ checklist }) => `${checklist.filter(({ doneAt }) => doneAt !== null).length} of ${checklist.length} items are done.`,
      false,
    ),
    incident(
      'note',
      'Add to the timeline what only operators read',
      helpers,
      z.strictObject({ note: required(longText) }),
      (ctx, named, { note }) => addNote(ctx, { incident: named, note }),
      () => 'The note is in the timeline.',
    ),
    incident(
      'resolve',
      'End it, and tell everybody who was told of it',
      builders,
      z.strictObject({ message: optional(longText), rootCause: optional(longText) }),
      (ctx, named, fields) => resolveIncident(ctx, { incident: named, ...fields }),
      ({ number: resolved }) => `Incident ${resolved} is resolved.`,
    ),
    action({
      path: '/ops/silences',
      summary: 'Keep alerts from opening incidents for a time',
      roles: builders,
      fields: z.strictObject({ matcher: required(500), hours: z.enum(silenceHours.map(String)), reason: required(500) }),
      back: () => '/ops/alerts',
      typedOn: () => '/ops/alerts',
      async act(ctx, { fields }) {
        const made = await silence(ctx, { matcher: fields.matcher, forMs: Number(fields.hours) * 3_600_000, reason: fields.reason })
        // Labels are known only of what fires.
        const named = made.matchers.filter(({ key }) => ['any', 'rule', 'component', 'severity'].includes(key))
        const watched = await listRules(ctx, alertSources)
        const any = watched.some(({ name, component, severity }) => matchesAll(named, { rule: name, component, severity, labels: {} }))
        return `Silent until ${instantText(made.endsAt, ctx.config.app.timezone ?? 'UTC')}.${any ? '' : ' Nothing that is watched matches it: see below what is.'}`
      },
    }),
    action({
      path: '/ops/silences/:silence/end',
      summary: 'End a silence before its time',
      roles: builders,
      back: () => '/ops/alerts',
      async act(ctx, { params }) {
        await unsilence(ctx, params.silence as string)
        return 'The silence is over.'
      },
    }),
    action({
      path: '/ops/channels/:channel/test',
      summary: 'Send a test message on a channel',
      roles: builders,
      back: () => '/ops/alerts',
      async act(ctx, { params }) {
        const { channel } = await testChannel(ctx, params.channel as string)
        return `A test was sent on ${channel}.`
      },
    }),
    action({
      path: '/ops/maintenance',
      summary: 'Announce maintenance',
      roles: builders,
      fields: z.strictObject({
        title: required(200),
        body: optional(5_000),
        startsAt: optional(20),
        endsAt: required(20),
        components: z.optional(z.union([z.string(), z.array(z.string()).check(z.maxLength(100))])),
      }),
      back: () => '/ops/maintenance',
      typedOn: () => '/ops/maintenance',
      async act(ctx, { fields }) {
        const { title, body, components } = fields
        const startsAt = fields.startsAt === undefined ? undefined : await localInstant(ctx, 'startsAt', fields.startsAt)
        const window = await scheduleMaintenance(ctx, {
          title,
          endsAt: await localInstant(ctx, 'endsAt', fields.endsAt),
          ...(body === undefined ? {} : { body }),
          ...(startsAt === undefined ? {} : { startsAt }),
          ...(components === undefined ? {} : { components: [components].flat() }),
        })
        return `“${window.title}” is announced.`
      },
    }),
    action({
      path: '/ops/maintenance/:window/end',
      summary: 'End a maintenance window now, or call it off',
      roles: builders,
      back: () => '/ops/maintenance',
      async act(ctx, { params }) {
        await endMaintenance(ctx, params.window as string)
        return 'The maintenance is over.'
      },
    }),
    action({
      path: '/ops/keys/:key/revoke',
      summary: 'Take an operator key back',
      roles: admins,
      back: () => '/ops/keys',
      async act(ctx, { params }) {
        const key = params.key as string
        const text = `The key ${await revokeKey(ctx, key)} is revoked; its sessions are over.`
        const own = ctx.actor.type === 'operator' && ctx.actor.id === key
        return { text, to: own ? '/ops/sign-in' : '/ops/keys' }
      },
    }),
  ]
}

function sameActor(a: Actor | null, b: Actor): boolean {
  return a?.type === b.type && 'id' in a && 'id' in b && a.id === b.id
}

function requestPage(params: Record<string, string>): string {
  return `/ops/gdpr/${encodeURIComponent(params.request ?? '')}`
}

function number(text: string | undefined): string {
  if (text === undefined || !/^\d{1,18}$/.test(text)) throw new CaretakerError('not_found', 'There is nothing under that number.')
  return text
}

/** What a clock on the wall of the app's zone shows, as an instant. PostgreSQL computes it: it knows the zones. */
async function localInstant(ctx: Context, field: string, text: string): Promise<Date> {
  if (!/^\d{4}-\d\d-\d\dT\d\d:\d\d$/.test(text) || Number.isNaN(Date.parse(`${text}Z`)))
    throw new CaretakerError('invalid_input', `${field}: expected a date and a time such as 2026-11-21T22:00.`)
  const [row] = await ctx.db.query<{ at: Date }>('select $1::timestamp at time zone $2::text as at', [
    text,
    ctx.config.app.timezone ?? 'UTC',
  ])
  return row?.at ?? new Date(Number.NaN)
}
