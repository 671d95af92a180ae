import { CaretakerError } from './errors.ts'

/**
 * The secrets of one name in a setting of the form `NAME=SECRET,OTHER=SECRET`; a name stands there once for each secret it has.
 * A secret may hold commas: one that no name follows is its own.
 * @param variable the setting's name, for messages, which never show a secret
 * @throws {CaretakerError} `not_configured` for a setting that is not of that form
 */
export function namedSecrets(setting: string | undefined, variable: string, name: string): string[] {
  if (setting === undefined) return []
  return setting
    .split(/,(?=\s*[a-z0-9-]+=)/)
    .map((entry) => entry.trim())
    .filter((entry) => entry !== '')
    .map((entry, index) => {
      const match = /^([a-z0-9-]+)=(.+?),?$/s.exec(entry)
      if (match === null)
        throw new CaretakerError(
          'not_configured',
          `Entry ${index + 1} of ${variable} is not of the form NAME=SECRET, with a name in lower case.`,
        )
      return match as unknown as [string, string, string]
    })
    .filter(([, of]) => of === name)
    .map(([, , secret]) => secret)
}
