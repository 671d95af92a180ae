import type { Session } from '../../lib/http/index.ts'
import type { Role } from '../../lib/platform/actor.ts'
import { type Content, type Html, html } from '../html.ts'
import { document, type NavItem } from '../layout.ts'
import type { Tone } from '../parts.ts'

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
}

export function may(view: View, roles: readonly Role[]): boolean {
  return roles.includes(view.session.role)
}

/** A page of the dashboard for who is signed in. */
export function opsPage(
  view: View,
  page: { title: string; current: string; main: Content; flash?: { tone: Tone; text: string } | undefined },
): Html {
  const { session } = view
  return document({
    title: page.title,
    app: `${view.app} operations`,
    home: '/ops',
    nav: items.filter(({ roles }) => roles.includes(session.role)),
    current: page.current,
    user: html`<span>${session.name} (${session.role})</span>${postButton(view, { action: '/ops/sign-out', text: 'Sign out', look: 'link' })}`,
    flash: page.flash,
    main: page.main,
    footer: html`Environment ${view.environment}. Times are ${view.timezone === 'UTC' ? 'UTC' : `of ${view.timezone}; UTC in each one's title`}. <a href="/status">Public status page</a>`,
  })
}

/** A page for who is not, or for whom it cannot be known. */
export function bareOpsPage(page: {
  app: string
  title: string
  main: Content
  head?: Content
  flash?: { tone: Tone; text: string } | undefined
}): Html {
  return document({ ...page, app: `${page.app} operations`, home: '/ops' })
}

/** A form of the session's own, whatever is in it. */
export function postForm(view: View, action: string, content: Content, className = ''): Html {
  return html`<form method="post" action="${action}"${className !== '' && html` class="${className}"`}>${content}<input type="hidden" name="csrf" value="${view.session.csrfToken}"></form>`
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

/** A labelled field. `id` is unique on the page. */
export function field(given: {
  id: string
  name?: string
  label: string
  hint?: string
  type?: 'text' | 'email' | 'password' | 'datetime-local' | 'number'
  value?: string
  required?: boolean
  maxLength?: number
  autocomplete?: string
  rows?: number
  placeholder?: string
  options?: readonly (readonly [value: string, text: string])[]
}): Html {
  const { id, label, hint, type = 'text', value = '', rows, options } = given
  const common = html` id="${id}" name="${given.name ?? id}"${given.required === true && html` required`}${
    given.maxLength !== undefined && html` maxlength="${given.maxLength}"`
  }${hint !== undefined && html` aria-describedby="${id}-hint"`}${given.autocomplete !== undefined && html` autocomplete="${given.autocomplete}"`}${
    given.placeholder !== undefined && html` placeholder="${given.placeholder}"`
  }`
  const input =
    options !== undefined
      ? html`<select${common}>${options.map(([one, text]) => html`<option value="${one}"${one === value && html` selected`}>${text}</option>`)}</select>`
      : rows !== undefined
        ? html`<textarea${common} rows="${rows}">${value}</textarea>`
        : html`<input type="${type}"${common} value="${value}"${(type === 'password' || type === 'email') && html` spellcheck="false" autocapitalize="none"`}>`
  return html`<div class="field"><label for="${id}">${label}</label>${input}${hint !== undefined && html`<span class="hint" id="${id}-hint">${hint}</span>`}</div>`
}
