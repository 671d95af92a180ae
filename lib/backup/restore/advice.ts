import { identifier, qualified } from '../../platform/db.ts'
import { sqlState } from '../../platform/errors.ts'

/** What `pg` knows of a refusal, beyond its message. Names only: values stand elsewhere. */
interface Refusal {
  schema?: string
  table?: string
  constraint?: string
  /** A domain's name. */
  dataType?: string
  where?: string
}

/**
 * What a person can do in the target where it refuses rows that the source held: a sentence that begins with a blank, or nothing. Then the
 * restore goes on.
 */
export function adviceOnRows(error: unknown): string {
  const state = sqlState(error)
  const { schema = '', table, constraint, dataType, where } = error as Refusal
  if (state === '23514' && constraint !== undefined && (table ?? dataType) !== undefined) {
    const of = table === undefined ? `domain ${qualified(schema, dataType ?? '')}` : `table ${qualified(schema, table)}`
    return ` Its constraint ${identifier(constraint)} is not what these rows were checked by when they were written. Drop it in the target (alter ${of} drop constraint ${identifier(constraint)}), go on, and add it again as NOT VALID.`
  }
  if (state === '23503' && constraint !== undefined)
    return ` They refer by ${identifier(constraint)} to rows that are not in the target: bring back what they refer to, too. Where tables refer to each other, drop that foreign key, bring both back, and add it again.`
  // Names and types of arguments; what follows may be a row.
  const called = /\bfunction ("?[^\s(]+\([^)"]*\)|"[^"]+")/.exec(where ?? '')?.[1]
  if (/^42(?:P01|883|703|704)|^3F000/.test(state ?? '') && called !== undefined)
    return ` The function ${called}, which a constraint of the table calls, does not say where to look for what it names, and a restore has an empty search_path. In the target: alter function ${called} set search_path = public, then go on.`
  return ''
}
