import type { FormFields } from '../../lib/http/index.ts'
import { type Content, type Html, html } from '../html.ts'

/**
 * A form that was not accepted: where it is shown again what was typed stays, and each mistake stands at its field. The page that
 * draws the form notes here where its fields are.
 */
export interface Refused {
  /** Where the form was sent. */
  action: string
  fields: FormFields
  errors: readonly { name: string; message: string }[]
  /** What is said of the form as a whole, where no field is to blame. */
  note: string
  /** Of the fields that were drawn, by their names. */
  drawn: Map<string, { id: string; label: string }>
  /** False while no page has shown the form: it may not be there any more, but what was typed must not go with it. */
  shown: boolean
}

export interface Field {
  /** Unique on the page. */
  id: string
  /** Default: the id. */
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
  /** What is wrong with the value. */
  error?: string | undefined
  /** The page opens here. */
  focused?: boolean
}

/** The fields of one form, with what was typed where it comes back. */
export interface Form {
  field(given: Field): Html
  /** Boxes of one name; none is ticked until somebody does. */
  boxes(name: string, values: readonly string[]): Html
}

/** What a form shows: as given, or as it was sent. */
export function formOf(refused: Refused | undefined): Form {
  if (refused === undefined) return { field, boxes: (name, values) => boxesOf(name, values, []) }
  refused.shown = true
  const mistaken = refused.errors[0]?.name
  return {
    field(given) {
      const name = given.name ?? given.id
      // The page opens where there is something to do: at the first mistake, else where the form begins.
      const focused = mistaken === undefined ? refused.drawn.size === 0 : name === mistaken
      refused.drawn.set(name, { id: given.id, label: given.label })
      const typed = refused.fields[name]
      const error = refused.errors.find((one) => one.name === name)?.message
      return field({ ...given, ...(typeof typed === 'string' ? { value: typed } : {}), error, focused })
    },
    boxes: (name, values) => boxesOf(name, values, [refused.fields[name] ?? []].flat()),
  }
}

function boxesOf(name: string, values: readonly string[], ticked: readonly string[]): Html {
  return html`${values.map(
    (value) =>
      html`<label><input type="checkbox" name="${name}" value="${value}"${ticked.includes(value) && html` checked`}> ${value}</label>`,
  )}`
}

/** A labelled field. What is wrong with it stands above it, is read out with it, and is where the page opens. */
export function field(given: Field): Html {
  const { id, label, hint, type = 'text', value = '', rows, options, error } = given
  const described = [...(error === undefined ? [] : [`${id}-error`]), ...(hint === undefined ? [] : [`${id}-hint`])].join(' ')
  const prose = options === undefined && (type === 'text' || rows !== undefined)
  const common = html` id="${id}" name="${given.name ?? id}"${given.required === true && html` required`}${
    given.maxLength !== undefined && html` maxlength="${given.maxLength}"`
  }${described !== '' && html` aria-describedby="${described}"`}${error !== undefined && html` aria-invalid="true"`}${
    given.focused === true && html` autofocus`
  }${given.autocomplete !== undefined && html` autocomplete="${given.autocomplete}"`}${
    given.placeholder !== undefined && html` placeholder="${given.placeholder}"`
  }${prose && html` dir="auto"`}`
  const input =
    options !== undefined
      ? html`<select${common}>${options.map(([one, text]) => html`<option value="${one}"${one === value && html` selected`}>${text}</option>`)}</select>`
      : rows !== undefined
        ? html`<textarea${common} rows="${rows}">${startOf(value)}${value}</textarea>`
        : html`<input type="${type}"${common} value="${value}"${(type === 'password' || type === 'email') && html` spellcheck="false" autocapitalize="none"`}>`
  return html`<div class="field"><label for="${id}">${label}</label>${
    error !== undefined && html`<span class="error" id="${id}-error">${error}</span>`
  }${input}${hint !== undefined && html`<span class="hint" id="${id}-hint">${hint}</span>`}</div>`
}

/** A browser leaves out one line break right after the tag: a text that begins with one needs another. */
function startOf(value: string): Content {
  return value.startsWith('\n') || value.startsWith('\r') ? '\n' : false
}

/** What was typed where there is no form any more to hold it, to be copied. */
export function leftOver(fields: FormFields): Html | false {
  const written = Object.entries(fields).filter(([, value]) => [value].flat().some((one) => one.trim() !== ''))
  return (
    written.length > 0 &&
    html`<section class="card" aria-labelledby="left"><h2 id="left">What you wrote</h2><p class="soft">Nothing was done with it. It is here so that it can be copied.</p>
<dl class="facts">${written.map(([name, value]) => html`<dt>${name}</dt><dd class="typed" dir="auto">${[value].flat().join(', ')}</dd>`)}</dl></section>`
  )
}
