/** Markup that is safe to write as it is: made by `html`, which escapes what it is given. */
export class Html {
  readonly markup: string
  constructor(markup: string) {
    this.markup = markup
  }
  toString(): string {
    return this.markup
  }
}

/** What may stand in a template: text is escaped, markup is not, nothing (`null`, `undefined`, `false`) is left out. */
export type Content = Html | string | number | bigint | null | undefined | false | readonly Content[]

const escapes: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' }

/** Turn the letters that follow round, beyond the end of the text: with them somebody's text could rewrite what stands beside it. */
const turning = /[\u202a-\u202e\u2066-\u2069]/g

/** Text as it may stand in an element or in a quoted attribute. */
export function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (character) => escapes[character] as string).replace(turning, '\ufffd')
}

function markupOf(content: Content): string {
  if (content === null || content === undefined || content === false) return ''
  if (content instanceof Html) return content.markup
  if (typeof content === 'object') return content.map(markupOf).join('')
  return escaped(String(content))
}

/** A template whose every interpolation is escaped, unless it is itself the result of one. Attributes must be quoted. */
export function html(strings: TemplateStringsArray, ...contents: readonly Content[]): Html {
  let markup = strings[0] as string
  for (const [index, content] of contents.entries()) markup += markupOf(content) + (strings[index + 1] as string)
  return new Html(markup)
}

/** Markup that was not made here but is known to be harmless: a constant of the program, never anything from outside. */
export function raw(markup: string): Html {
  return new Html(markup)
}

/** The address where it is one that a link may lead to (`https`, `http`, or a path of this site), else null. */
export function safeHref(address: string): string | null {
  if (/^\/(?![/\\])/.test(address)) return address
  try {
    const url = new URL(address)
    return url.protocol === 'https:' || url.protocol === 'http:' ? url.href : null
  } catch {
    return null
  }
}
