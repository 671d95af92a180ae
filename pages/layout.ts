import { type Content, type Html, html, raw } from './html.ts'
import type { Tone } from './parts.ts'
import { style, styleHash } from './style.ts'

export interface NavItem {
  href: string
  text: string
}

/** What the action just taken has done. It is also in the title: screen readers read that of a new page, and a live region only when it changes. */
export interface Flash {
  tone: Tone
  text: string
  /** The same with links, for the page itself. */
  linked?: Content
}

export interface Page {
  /** Of this page; the browser's title adds the app's name. */
  title: string
  /** The app's name, at the top left. */
  app: string
  /** Where the app's name leads. */
  home: string
  main: Content
  nav?: readonly NavItem[]
  /** The `href` of the item of `nav` that is open. */
  current?: string
  /** At the top right: who is signed in, and how to leave. */
  user?: Content
  flash?: Flash | undefined
  /** Further elements of the head, such as the link to a feed. */
  head?: Content
  /** Whether search engines may list the page. Default: no. */
  indexed?: boolean
  footer?: Content
}

/** A whole document: landmarks, skip link, one inlined stylesheet that follows the reader's light or dark scheme. No script. */
export function document(page: Page): Html {
  const { title, app, home, main, nav, current, user, flash, head, footer } = page
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<meta name="color-scheme" content="light dark">${
    page.indexed !== true &&
    html`
<meta name="robots" content="noindex">`
  }
<link rel="icon" href="data:,">
<title>${flash !== undefined && `${flash.tone === 'bad' ? 'Error: ' : ''}${flash.text.slice(0, 150)} · `}${title} · ${app}</title>${head}
<style>${raw(style)}</style>
</head>
<body>
<a class="skip" href="#main">Skip to content</a>
<header class="top"><div class="in"><a class="brand" href="${home}">${app}</a>${user !== undefined && html`<div class="who">${user}</div>`}${
    nav !== undefined &&
    html`<nav class="main" aria-label="Pages"><ul>${nav.map(
      (item) => html`<li><a href="${item.href}"${item.href === current && html` aria-current="page"`}>${item.text}</a></li>`,
    )}</ul></nav>`
  }</div></header>
<main id="main" class="in" tabindex="-1">
<div role="status" aria-live="polite">${flash !== undefined && html`<p class="flash ${flash.tone}">${flash.linked ?? flash.text}</p>`}</div>
${main}
</main>
${footer !== undefined && html`<footer><div class="in">${footer}</div></footer>`}
</body>
</html>
`
}

/** Nothing is loaded, no script runs, forms go nowhere else, and no site frames the page. */
const contentSecurityPolicy = `default-src 'none'; style-src ${styleHash}; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'`

/** The document as an answer. `cache-control` is `no-store` unless `headers` say otherwise. */
export function htmlResponse(
  page: Html,
  init: { status?: number; headers?: Record<string, string> | readonly (readonly [name: string, value: string])[] } = {},
): Response {
  const headers = new Headers({
    'content-type': 'text/html; charset=utf-8',
    'content-security-policy': contentSecurityPolicy,
    'cache-control': 'no-store',
  })
  const given = Array.isArray(init.headers) ? init.headers : Object.entries(init.headers ?? {})
  // More than one cookie may be set.
  for (const [name, value] of given) name === 'set-cookie' ? headers.append(name, value) : headers.set(name, value)
  return new Response(page.markup, { status: init.status ?? 200, headers })
}
