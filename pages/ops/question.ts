import { type Content, type Html, html } from '../html.ts'
import type { Form } from './form.ts'
import { postForm, type View } from './shell.ts'

/**
 * A page between an action that cannot be taken back and whoever is about to take it: what it does, to what, the button, and the way
 * out. Where there is nothing to be done any more it says that alone.
 */
export function questionPage(
  view: View,
  given: {
    title: string
    /** What happens, and what does not come back. */
    text: Content
    action: string
    button: string
    /** What has to be said with it. */
    fields?: (form: Form) => Content
    /** The page that is left to. */
    cancel: string
    /** Why there is nothing to ask. */
    settled?: string | undefined
  },
): Html {
  const { title, text, action, button, fields, cancel, settled } = given
  if (settled !== undefined) return html`<h1>${title}</h1><p>${settled}</p><p><a class="button" href="${cancel}">Back</a></p>`
  return html`<h1>${title}</h1>
<div class="card"><div class="prose">${text}</div>
${postForm(view, action, (form) => html`${fields?.(form)}<p class="acts"><button class="danger">${button}</button><a class="button quiet" href="${cancel}">Cancel</a></p>`)}</div>`
}
