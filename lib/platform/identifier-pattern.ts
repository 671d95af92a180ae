/**
 * A regular expression, for PostgreSQL (`~*`) and for JavaScript (flag `i`) alike, that finds any of a person's identifiers in text
 * where they stand alone: ann@example.org is somebody else than joann@example.org, and number 123456 than 1234567. Only
 * ASCII neighbours count: scripts without spaces put a name among other letters.
 */
export function identifierPattern(identifiers: readonly string[]): string {
  return identifiers
    .map((text) => {
      const literal = text.replace(/[!-/:-@[-`{-~]/g, '\\$&')
      return text.includes('@') ? `(?<![a-z0-9._+-])${literal}(?![a-z0-9_-]|\\.[a-z0-9])` : `(?<![a-z0-9_])${literal}(?![a-z0-9_])`
    })
    .join('|')
}
