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
  // A short number is an amount or a date in somebody else's text.
  const ids = [subject.id, ...Object.values(people).flatMap((person) => person.ids)].filter((id) => !/^\d{1,11}$/.test(id))
  const found = new Set<string>([...ids, ...(subject.email === undefined ? [] : [subject.email])])
  // The app's row and, where it only extends one of Auth, that: their addresses may differ.
  const rows = [
    {
      table: map.tables.get(map.subject)?.table,
      id: map.idColumn.name,
      named: ['phone', ...(map.emailColumn === undefined ? [] : [map.emailColumn]), ...(policy.subject.identifiers ?? [])],
    },
    ...(map.root === map.subject ? [] : [{ table: map.tables.get(map.root)?.table, id: map.rootColumn.name, named: ['email', 'phone'] }]),
  ]
  for (const { table, id, named } of rows) {
    const columns = named.filter((name) => table?.columns.some((column) => column.name === name) === true)
    if (table === undefined || columns.length === 0) continue
    const [row] = await tx.query<Record<string, string | null>>(
      `select ${columns.map((name, n) => `t.${identifier(name)}::text as c${n}`).join(', ')} from ${qualified(table.schema, table.name)} t
       where t.${identifier(id)}::text = $1`,
      [subject.id],
    )
    for (const value of Object.values(row ?? {})) if (value !== null) found.add(value)
  }
  return [...found]
    .map((text) => text.trim().toLowerCase())
    .filter((text) => text.length >= leastLength)
    .sort((a, b) => b.length - a.length)
}
