import { type Content, type Html, html } from './html.ts'

/** Good, worth a look, bad, nothing known: the colour and the sign of a badge, a banner or a flash message. */
export type Tone = 'ok' | 'warn' | 'bad' | 'none'

export function badge(tone: Tone, text: string): Html {
  return html`<span class="badge ${tone}"><i aria-hidden="true"></i>${text}</span>`
}

/** The one sentence at the top that says how things are. */
export function banner(tone: Tone, text: Content): Html {
  return html`<p class="banner ${tone}">${text}</p>`
}

export interface Column<Row> {
  /** Also the label before the value on a phone. */
  name: string
  /** Numbers stand to the right. */
  numeric?: boolean
  /** Short names: they are broken only where the table has become cards. */
  whole?: boolean
  cell(row: Row): Content
}

/**
 * A table; the first column names the row. On a phone each row becomes a card with its labels. The explicit roles keep it
 * a table for screen readers there, too. Without rows: the sentence `empty`.
 */
export function table<Row>(given: {
  caption: string
  columns: readonly [Column<NoInfer<Row>>, ...Column<NoInfer<Row>>[]]
  rows: readonly Row[]
  empty: string
}): Html {
  const { caption, columns, rows, empty } = given
  if (rows.length === 0) return html`<p class="soft">${empty}</p>`
  const head = columns.map(
    ({ name, numeric }) => html`<th role="columnheader" scope="col"${numeric === true && html` class="num"`}>${name}</th>`,
  )
  const body = rows.map(
    (row) =>
      html`<tr role="row">${columns.map(({ name, numeric, whole, cell }, index) =>
        index === 0
          ? html`<th role="rowheader" scope="row">${cell(row)}</th>`
          : html`<td role="cell" data-of="${name}"${(numeric === true && html` class="num"`) || (whole === true && html` class="whole"`)}>${wrapped(cell(row))}</td>`,
      )}</tr>`,
  )
  return html`<table role="table" class="stack"><caption>${caption}</caption><thead role="rowgroup"><tr role="row">${head}</tr></thead><tbody role="rowgroup">${body}</tbody></table>`
}

/** One element a cell, because on a phone the cell is a grid of its label and its value. */
function wrapped(content: Content): Html {
  return html`<span>${content}</span>`
}

/** Names and values. */
export function facts(entries: readonly (readonly [string, Content])[]): Html {
  return html`<dl class="facts">${entries.map(([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>`)}</dl>`
}

/** A figure with its name and a word on it, for an overview. */
export function tile(given: { title: string; big: Content; note?: Content; href?: string }): Html {
  const { title, big, note, href } = given
  return html`<section class="card tile"><h2>${href === undefined ? title : html`<a href="${href}">${title}</a>`}</h2><p class="big">${big}</p>${note !== undefined && html`<p class="soft">${note}</p>`}</section>`
}

/** `1 run`, `3 runs`. */
export function counted(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`
}

/** The longest JSON that a page holds, characters. */
const longestJson = 50_000

/** A value as it is kept, for who reads it closely. */
export function json(value: unknown): Html {
  const text = JSON.stringify(value, null, 2)
  const cut = text.length > longestJson
  return html`<pre tabindex="0">${cut ? text.slice(0, longestJson) : text}</pre>${cut && html`<p class="soft">The first ${longestJson.toLocaleString('en')} characters of ${text.length.toLocaleString('en')}.</p>`}`
}

/** Says where a list shows less than there is. `all` is absent where nobody counted: there are more then. */
export function newestOf(what: string, shown: number, all?: number): string {
  if (all !== undefined && shown >= all) return what
  return `${what}: the newest ${shown.toLocaleString('en')}${all === undefined ? '' : ` of ${all.toLocaleString('en')}`}`
}

/** Who did something, without a name: a role and the beginning of an id. */
export function actorText(actor: unknown): string {
  const { type, role, id, job, rule, source } = (actor ?? {}) as Partial<Record<'type' | 'role' | 'id' | 'job' | 'rule' | 'source', string>>
  if (type === 'operator') return `${role} ${id?.slice(0, 8) ?? ''}`
  if (type === 'system') return job === undefined ? 'Caretaker' : `Caretaker (${job})`
  if (type === 'alert') return `alert ${rule ?? ''}`
  if (type === 'cli') return 'the command line'
  if (type === 'subject') return 'the person'
  if (type === 'provider') return `provider ${source ?? ''}`
  return type ?? 'unknown'
}
