import { identifier, type Queryable, qualified } from '../../platform/db.ts'
import type { GdprPolicy } from '../map/policy-names.ts'
import type { SubjectMap } from '../map/subject-map.ts'
import type { Person } from '../processors/index.ts'
import type { Subject } from '../subject.ts'

/** Shorter ones ("7", "Ann") stand in other people's rows too, and mean somebody else there. */
const leastLength = 6

/**
 * What the person can be recognised by in text: address, telephone number, id where it is long enough to be nobody
 * else's, what processors know them by, and the columns that `subject.identifiers` names. In lower case, longest first.
 */
export async function identifiersOf(
  tx: Queryable,
  map: SubjectMap,
  policy: GdprPolicy,
  subject: Subject,
  people: Readonly<Record<string, Person>>,
): Promise<string[]> {
  const found = new Set<string>([subject.id, ...(subject.email === undefined ? [] : [subject.email])])
  for (const { ids } of Object.values(people)) for (const id of ids) found.add(id)
  const table = map.tables.get(map.subject)?.table
  const named = [...(policy.subject.identifiers ?? []), ...(table?.columns.some(({ name }) => name === 'phone') === true ? ['phone'] : [])]
  if (table !== undefined && named.length > 0) {
    const [row] = await tx.query<Record<string, string | null>>(
      `select ${named.map((name, n) => `t.${identifier(name)}::text as c${n}`).join(', ')} from ${qualified(table.schema, table.name)} t
       where t.${identifier(map.idColumn.name)}::text = $1`,
      [subject.id],
    )
    for (const value of Object.values(row ?? {})) if (value !== null) found.add(value)
  }
  return [...found]
    .map((text) => text.trim().toLowerCase())
    .filter((text) => text.length >= leastLength)
    .sort((a, b) => b.length - a.length)
}
