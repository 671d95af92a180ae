import type { FormFields } from '../../lib/http/index.ts'
import { type Html, html } from '../html.ts'
import type { Flash } from '../layout.ts'
import { field, leftOver } from './form.ts'
import { bareOpsPage } from './shell.ts'

/** What somebody wrote whose session had ended: it is shown to them again once they are signed in. */
export interface Kept {
  /** Where it was sent. */
  action: string
  fields: FormFields
}

/** Where an operator says who they are: with a key, or with their account where the app has Supabase. */
export function signInPage(given: {
  app: string
  to: string
  supabase: boolean
  local: boolean
  /** What was typed as the address. */
  email?: string | undefined
  /** The field in which something is wrong. */
  wrong?: 'key' | 'email' | 'password' | 'code' | undefined
  kept?: Kept | undefined
  /** Of this very showing. */
  once: string
  flash: Flash | undefined
}): Html {
  const { app, to, supabase, local, email = '', wrong, kept, once, flash } = given
  const target = html`<input type="hidden" name="to" value="${to}">${
    kept !== undefined &&
    html`<input type="hidden" name="kept" value="${JSON.stringify(kept)}"><input type="hidden" name="once" value="${once}">`
  }`
  const mistake = (name: typeof wrong) => (name === wrong ? { error: flash?.text, focused: true } : {})
  return bareOpsPage({
    app,
    title: 'Sign in',
    flash,
    main: html`<h1>Sign in</h1>
<p class="soft">The dashboard is for operators. A session lasts eight hours, and ends with its key or account.</p>
<div class="grid wide">
<section class="card" aria-labelledby="with-key"><h2 id="with-key">With an operator key</h2>
<form method="post" action="/ops/sign-in">${target}${field({
      id: 'key',
      label: 'Key',
      type: 'password',
      required: true,
      maxLength: 200,
      autocomplete: 'current-password',
      hint: local ? 'npm start prints one.' : 'Made by `caretaker keys create --role ROLE`.',
      ...mistake('key'),
    })}<button>Sign in with the key</button></form></section>
${
  supabase &&
  html`<section class="card" aria-labelledby="with-account"><h2 id="with-account">With your account</h2>
<form method="post" action="/ops/sign-in">${target}${field({
    id: 'email',
    label: 'E-mail address',
    type: 'email',
    required: true,
    maxLength: 320,
    autocomplete: 'username',
    value: email,
    ...mistake('email'),
  })}${field({ id: 'password', label: 'Password', type: 'password', required: true, maxLength: 1_000, autocomplete: 'current-password', ...mistake('password') })}${field(
    {
      id: 'code',
      label: 'Code of your authenticator app',
      hint: 'Only where your account has a second factor.',
      maxLength: 12,
      autocomplete: 'one-time-code',
      ...mistake('code'),
    },
  )}<button>Sign in with the account</button></form></section>`
}
</div>`,
  })
}

/** Sends the browser to the same address again, from this site: a strict cookie does not come with a link on another one. */
export function comeAgainPage(given: { app: string; to: string }): Html {
  return bareOpsPage({
    app: given.app,
    title: 'One moment',
    head: html`<meta http-equiv="refresh" content="0;url=${given.to}">`,
    main: html`<h1>One moment</h1><p><a href="${given.to}">Continue</a></p>`,
  })
}

/** What went wrong, in words. */
export function problemPage(given: {
  app: string
  title: string
  detail: string
  code: string
  requestId: string
  back: string
  /** What was typed and not sent. */
  typed: FormFields | null
}): Html {
  return bareOpsPage({
    app: given.app,
    title: given.title,
    main: html`<h1>${given.title}</h1>
<p>${given.detail}</p>
${given.code === 'database_unavailable' && html`<p>The <a href="/status">status page</a> and <a href="/health">/health</a> do without it: they tell what a look just now finds.</p>`}
<p class="soft">Code <code>${given.code}</code>, request <code>${given.requestId}</code>.</p>
<p class="acts"><a class="button" href="${given.back}">Back</a><a class="button quiet" href="/ops">Overview</a></p>
${given.typed !== null && leftOver(given.typed)}`,
  })
}
