import type { Session } from '../../lib/http/index.ts'
import type { Role } from '../../lib/platform/actor.ts'
import { type Content, type Html, html } from '../html.ts'
import { document, type Flash, type NavItem } from '../layout.ts'
import type { Column } from '../parts.ts'
import { type Form, formOf, leftOver, type Refused } from './form.ts'

/** Who may do what with the dashboard; the same as over the API. */
export const everyone: readonly Role[] = ['admin', 'developer', 'support', 'viewer']
export const builders: readonly Role[] = ['admin', 'developer']
export const helpers: readonly Role[] = ['admin', 'developer', 'support']
export const keepers: readonly Role[] = ['admin', 'support']
export const admins: readonly Role[] = ['admin']

const items: readonly (NavItem & { roles: readonly Role[] })[] = [
  { href: '/ops', text: 'Overview', roles: everyone },
  { href: '/ops/health', text: 'Health', roles: everyone },
  { href: '/ops/incidents', text: 'Incidents', roles: everyone },
  { href: '/ops/alerts', text: 'Alerts', roles: everyone },
  { href: '/ops/metrics', text: 'Metrics', roles: everyone },
  { href: '/ops/jobs', text: 'Jobs', roles: everyone },
  { href: '/ops/backups', text: 'Backups', roles: everyone },
  { href: '/ops/webhooks', text: 'Webhooks', roles: everyone },
  { href: '/ops/gdpr', text: 'Privacy requests', roles: everyone },
  { href: '/ops/maintenance', text: 'Maintenance', roles: everyone },
  { href: '/ops/audit', text: 'Audit', roles: builders },
  { href: '/ops/keys', text: 'Keys', roles: admins },
]

/** What each page of the dashboard is made with: who looks, when, and in which zone times are said. */
export interface View {
  app: string
  environment: string
  timezone: string
  now: Date
  session: Session
  /** Of this very showing: it is in each form, so that a form counts once. */
  once: string
  /** The form that has brought the page back. */
  refused?: Refused | undefined
}

export function may(view: View, roles: readonly Role[]): boolean {
  return roles.includes(view.session.role)
}

/** A page of the dashboard for who is signed in. */
export function opsPage(view: View, page: { title: string; current: string; main: Content; flash?: Flash | undefined }): Html {
  const { session, refused } = view
  return document({
    title: page.title,
    app: `${view.app} operations`,
    home: '/ops',
    nav: items.filter(({ roles }) => roles.includes(session.role)),
    current: page.current,
    user: html`<span>${session.name} (${session.role})</span>${postButton(view, { action: '/ops/sign-out', text: 'Sign out', look: 'link' })}`,
    flash: page.flash,
    main: refused === undefined || refused.shown ? page.main : [leftOver(refused.fields), page.main],
    footer: html`Environment ${view.environment}. Times are ${view.timezone === 'UTC' ? 'UTC' : `of ${view.timezone}; UTC in each one's title`}. <a href="/status">Public status page</a>`,
  })
}

/** A page for who is not, or for whom it cannot be known. */
export function bareOpsPage(page: { app: string; title: string; main: Content; head?: Content; flash?: Flash | undefined }): Html {
  return document({ ...page, app: `${page.app} operations`, home: '/ops' })
}

/** A form of the session's own, whatever is in it. Where it comes back, its fields hold what was typed. */
export function postForm(view: View, action: string, content: Content | ((form: Form) => Content), className = ''): Html {
  const refused = typeof content === 'function' && view.refused?.action === action ? view.refused : undefined
  const inner = typeof content === 'function' ? content(formOf(refused)) : content
  const note = refused !== undefined && refused.errors.length === 0 && html`<p class="error">${refused.note}</p>`
  return html`<form method="post" action="${action}"${className !== '' && html` class="${className}"`}>${note}${inner}<input type="hidden" name="csrf" value="${view.session.csrfToken}"><input type="hidden" name="once" value="${view.once}"></form>`
}

/** A link to the page that asks before something is done. `about` as with a button. */
export function askButton(given: { href: string; text: string; about?: string }): Html {
  const { href, text, about } = given
  return html`<a class="button quiet" href="${href}">${text}${about !== undefined && html`<span class="vh"> ${about}</span>`}</a>`
}

/** The column with what can be done about a row; none for who may not. */
export function actionColumn<Row>(view: View, roles: readonly Role[], cell: (row: Row) => Content): Column<Row>[] {
  return may(view, roles) ? [{ name: 'Action', cell }] : []
}

/** A button that does something. Where several on a page say the same, `about` tells them apart for a screen reader. */
export function postButton(
  view: View,
  given: { action: string; text: string; about?: string; look?: 'quiet' | 'link'; fields?: Record<string, string> },
): Html {
  const { action, text, about, look, fields = {} } = given
  return postForm(
    view,
    action,
    html`${Object.entries(fields).map(([name, value]) => html`<input type="hidden" name="${name}" value="${value}">`)}<button${
      look !== undefined && html` class="${look}"`
    }>${text}${about !== undefined && html`<span class="vh"> ${about}</span>`}</button>`,
  )
}
