import type { Queryable } from '../platform/db.ts'
import { identifier, qualified } from '../platform/db.ts'
import { CaretakerError, sqlState } from '../platform/errors.ts'
import type { SubjectMap } from './map/subject-map.ts'

/** One person, as the subject's table names them. Personal data: it stays in memory and in the open request. */
export interface Subject {
  id: string
  email: string | undefined
}

/**
 * The person with that id or, where the subject's table has an e-mail column, that address; undefined where there is none.
 * @throws {CaretakerError} `invalid_input` when several people share the address: the id tells them apart.
 */
export async function findSubject(db: Queryable, map: SubjectMap, named: string): Promise<Subject | undefined> {
  const subject = map.tables.get(map.subject)?.table
  const root = map.tables.get(map.root)?.table
  if (subject === undefined || root === undefined) return undefined
  const from = qualified(subject.schema, subject.name)
  const id = identifier(map.idColumn.name)
  const own = map.emailColumn === undefined ? 'null' : `t.${identifier(map.emailColumn)}::text`
  const lifted = map.root !== map.subject && root.columns.some(({ name }) => name === 'email')
  const auth = `${qualified(root.schema, root.name)} r`
  const isPerson = `r.${identifier(map.rootColumn.name)} = t.${id}`
  // Auth has confirmed its address; the app's own column may hold what the person wrote there. A blank address is nobody's:
  // many rows have it, and an interface that is asked for it answers with everybody.
  const email = `coalesce(${lifted ? `(select nullif(btrim(r.email::text), '') from ${auth} where ${isPerson}), ` : ''}nullif(btrim(${own}), ''))`
  const columns = `t.${id}::text as id, ${email} as email`

  const byId = await ifCastable(
    db.query<{ id: string; email: string | null }>(`select ${columns} from ${from} t where t.${id} = $1::${map.idColumn.type}`, [named]),
  )
  if (byId[0] !== undefined) return { id: byId[0].id, email: byId[0].email ?? undefined }
  const byEmail = [
    ...(lifted ? [`exists (select from ${auth} where ${isPerson} and lower(r.email::text) = lower($1))`] : []),
    ...(map.emailColumn === undefined ? [] : [`lower(${own}) = lower($1)`]),
  ]
  for (const condition of named.includes('@') ? byEmail : []) {
    const found = await ifCastable(
      db.query<{ id: string; email: string | null }>(`select ${columns} from ${from} t where ${condition} limit 2`, [named]),
    )
    if (found.length > 1)
      throw new CaretakerError(
        'invalid_input',
        `Several rows of ${map.subject} have this e-mail address; name the person by ${map.idColumn.name}.`,
      )
    if (found[0] !== undefined) return { id: found[0].id, email: found[0].email ?? undefined }
  }
  if (map.root === map.subject) return undefined
  // The app's own row is gone, the Auth user is still there.
  const rest = await ifCastable(
    db.query<{ id: string; email: string | null }>(
      `select r.${identifier(map.rootColumn.name)}::text as id, ${lifted ? `nullif(btrim(r.email::text), '')` : 'null'} as email from ${auth}
       where r.${identifier(map.rootColumn.name)} = $1::${map.rootColumn.type}`,
      [named],
    ),
  )
  return rest[0] === undefined ? undefined : { id: rest[0].id, email: rest[0].email ?? undefined }
}

/** What is not a uuid, or not a number, names nobody in a table of such keys. */
async function ifCastable<T>(rows: Promise<T[]>): Promise<T[]> {
  try {
    return await rows
  } catch (error) {
    if (/^22/.test(sqlState(error) ?? '')) return []
    throw error
  }
}

/** Whether the row that everything hangs from is still there. */
export async function rootExists(db: Queryable, map: SubjectMap, id: string): Promise<boolean> {
  const root = map.tables.get(map.root)?.table
  if (root === undefined) return false
  const rows = await db.query(
    `select from ${qualified(root.schema, root.name)} t where t.${identifier(map.rootColumn.name)} = $1::${map.rootColumn.type}`,
    [id],
  )
  return rows.length > 0
}
