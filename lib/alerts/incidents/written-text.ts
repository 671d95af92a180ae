import { CaretakerError } from '../../platform/errors.ts'

/**
 * What a person wrote, without the space around it.
 * @throws {CaretakerError} `invalid_input` where it is empty, longer than `max` characters, or holds control characters
 */
export function writtenText(field: string, given: string, max: number): string {
  const text = given.replaceAll('\r\n', '\n').trim()
  const problem =
    text === ''
      ? 'found nothing, expected some text'
      : text.length > max
        ? `found ${text.length} characters, expected at most ${max}`
        : // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
          /[\u0000-\u0008\u000b-\u001f\u007f]/.test(text)
          ? 'found control characters, expected text'
          : undefined
  if (problem === undefined) return text
  throw new CaretakerError('invalid_input', `${field}: ${problem}.`, { issues: [{ path: field, message: problem }] })
}

/** A title is one line. */
export function writtenTitle(field: string, given: string): string {
  return writtenText(field, given.replaceAll(/\s+/g, ' '), 200)
}

export const longestText = 5_000
