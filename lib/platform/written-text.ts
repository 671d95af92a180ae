import { CaretakerError } from './errors.ts'

/*
 * What a person types and others read: titles, notes, reasons, names. It ends in messages, mails, pages, feeds and terminals, so that
 * what changes how the text around it is shown is refused here, for all of them.
 */

export const longestTitle = 200
export const longestReason = 500
export const longestText = 5_000

/** Of a text with lines: everything that steers a terminal or a parser, except a tab and the end of a line. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
const controls = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/
/** They turn round the text that follows, up to the end of a line that is not theirs. Marks of a single place (LRM, RLM) do not. */
const overrides = /[\u202a-\u202e\u2066-\u2069]/

/** What is wrong with a text, as the words after "found"; undefined where nothing is. */
export function unreadable(text: string): string | undefined {
  if (controls.test(text)) return 'control characters'
  if (overrides.test(text)) return 'characters that turn the direction of what follows'
  return text.isWellFormed() ? undefined : 'half a character'
}

/**
 * What a person wrote, without the space around it.
 * @throws {CaretakerError} `invalid_input` where it is empty, longer than `max` characters, or holds what is no text: control characters,
 *   overrides of the direction, half a character
 */
export function writtenText(field: string, given: string, max: number = longestText): string {
  const text = given.replaceAll('\r\n', '\n').trim()
  const wrong = unreadable(text)
  const problem =
    text === ''
      ? 'found nothing, expected some text'
      : text.length > max
        ? `found ${text.length} characters, expected at most ${max}`
        : wrong === undefined
          ? undefined
          : `found ${wrong}, expected text`
  if (problem === undefined) return text
  throw new CaretakerError('invalid_input', `${field}: ${problem}.`, { issues: [{ path: field, message: problem }] })
}

/** As `writtenText`, in one line. */
export function writtenTitle(field: string, given: string, max: number = longestTitle): string {
  return writtenText(field, given.replaceAll(/\s+/g, ' '), max)
}
