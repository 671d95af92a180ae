import { html } from '../../../pages/html.ts'
import { questionPage } from '../../../pages/ops/question.ts'
import { admins, builders, helpers, keepers } from '../../../pages/ops/shell.ts'
import { counted } from '../../../pages/parts.ts'
import { time } from '../../../pages/time.ts'
import { getRequest } from '../../gdpr/requests/request.ts'
import { listMaintenance } from '../../health/index.ts'
import { listKeys } from '../../http/index.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { webhookFigures } from '../../webhooks/index.ts'
import { type PageRoute, page } from './page.ts'
import { maintenanceShown } from './pages.ts'

/** What is asked before an action that cannot be taken back; each at the address of its action. */
export const questions = (): PageRoute[] => [
  page({
    path: '/ops/keys/:key/revoke',
    summary: 'Whether to take an operator key back',
    current: '/ops/keys',
    roles: admins,
    async show(ctx, view, { params }) {
      const key = (await listKeys(ctx)).find(({ id }) => id === params.key)
      if (key === undefined) throw new CaretakerError('not_found', 'There is no key of that id.')
      const own = ctx.actor.type === 'operator' && ctx.actor.id === key.id
      const title = 'Revoke a key'
      return {
        title,
        main: questionPage(view, {
          title,
          text: html`<p>Revoke the key <strong><bdi>${key.name}</bdi></strong> (${key.role}), last used ${time(key.lastUsedAt, view.timezone)}?</p>
<p>Whoever uses it is refused at once${key.sessions > 0 && `, and ${counted(key.sessions, 'session')} of it ${key.sessions === 1 ? 'ends' : 'end'}`}. It cannot be given back: a new key would have to be made.</p>
${own && html`<p><strong>It is the key that you are signed in with.</strong> You will be signed out.</p>`}`,
          action: `/ops/keys/${key.id}/revoke`,
          button: 'Revoke',
          cancel: '/ops/keys',
          settled: key.revokedAt === null ? undefined : 'The key was revoked before.',
        }),
      }
    },
  }),
  page({
    path: '/ops/gdpr/:request/approve',
    summary: 'Whether to carry out a privacy request',
    current: '/ops/gdpr',
    roles: keepers,
    async show(ctx, view, { params }) {
      const { id, kind, review, finishedAt } = await getRequest(ctx, params.request as string)
      const title = 'Approve a request'
      const what = {
        erase: html`<p>Erase this person’s data? Their rows, files and account are deleted or made anonymous, here and at the processors of the policy. <strong>Nothing of it comes back.</strong></p>`,
        export: html`<p>Make this export? Its file holds everything that is known of the person.</p>`,
        rectify: html`<p>Make this correction? What stood there before is not kept.</p>`,
      }
      const settled =
        review === 'needed' ? undefined : review === 'approved' ? 'It was approved before.' : 'It is not waiting for a review.'
      return {
        title,
        main: questionPage(view, {
          title,
          text: what[kind],
          action: `/ops/gdpr/${id}/approve`,
          button: kind === 'erase' ? 'Approve and erase' : 'Approve',
          cancel: `/ops/gdpr/${id}`,
          settled: finishedAt === null ? settled : 'The request has ended.',
        }),
      }
    },
  }),
  page({
    path: '/ops/gdpr/:request/refuse',
    summary: 'Whether to refuse a privacy request, and why',
    current: '/ops/gdpr',
    roles: keepers,
    async show(ctx, view, { params }) {
      const { id, finishedAt } = await getRequest(ctx, params.request as string)
      const title = 'Refuse a request'
      return {
        title,
        main: questionPage(view, {
          title,
          text: html`<p>Refuse this request? It ends, and is not carried out. The person must be told why within the month, and of their right to complain.</p>`,
          action: `/ops/gdpr/${id}/refuse`,
          button: 'Refuse',
          fields: (form) => form.field({ id: 'reason', label: 'Reason that the person is told', required: true, maxLength: 500, rows: 3 }),
          cancel: `/ops/gdpr/${id}`,
          settled: finishedAt === null ? undefined : 'The request has ended.',
        }),
      }
    },
  }),
  page({
    path: '/ops/maintenance/:window/end',
    summary: 'Whether to end a maintenance window, or call it off',
    current: '/ops/maintenance',
    roles: builders,
    async show(ctx, view, { params }) {
      const { now, timezone } = view
      const found = (await listMaintenance(ctx, maintenanceShown(now))).find(({ id, recurring }) => id === params.window && !recurring)
      const begun = found !== undefined && found.startsAt <= now
      const title = begun ? 'End maintenance' : 'Call maintenance off'
      return {
        title,
        main: questionPage(view, {
          title,
          text: html`<p>${begun ? 'End' : 'Call off'} <strong><bdi>${found?.title}</bdi></strong>, ${time(found?.startsAt, timezone)} to ${time(found?.endsAt, timezone)}?</p>
<p>${begun ? 'From now on what fails is an outage again, and pages people.' : 'It disappears from the status page, and what fails in that time is an outage.'}</p>`,
          action: `/ops/maintenance/${params.window ?? ''}/end`,
          button: begun ? 'End now' : 'Call off',
          cancel: '/ops/maintenance',
          settled: found === undefined || found.endsAt <= now ? 'The maintenance is over already, or was called off.' : undefined,
        }),
      }
    },
  }),
  page({
    path: '/ops/webhooks/replay-dead',
    summary: 'Whether to apply every dead event again',
    current: '/ops/webhooks',
    roles: helpers,
    async show(ctx, view) {
      const { sources } = await webhookFigures(ctx)
      const dead = sources.filter((source) => source.dead > 0)
      const all = dead.reduce((sum, source) => sum + source.dead, 0)
      const title = 'Replay dead events'
      return {
        title,
        main: questionPage(view, {
          title,
          text: html`<p>Apply ${counted(all, 'dead event')} again, the oldest first, up to 500 at once?</p>
<ul>${dead.map(({ source, dead: count }) => html`<li>${count.toLocaleString('en')} of ${source}</li>`)}</ul>
<p>Their handlers run as if they had just arrived. What made them fail should be mended first.</p>`,
          action: '/ops/webhooks/replay-dead',
          button: 'Replay them',
          cancel: '/ops/webhooks',
          settled: all === 0 ? 'No event is dead.' : undefined,
        }),
      }
    },
  }),
]
