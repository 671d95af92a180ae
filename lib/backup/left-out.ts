import type { Session } from '../platform/db.ts'
import { literal } from './sequences.ts'

/*
 * Parts of roles and settings that a target may refuse without harm to the data. Their statements handle the refusal themselves, so
 * that the script works for psql, too: a warning for whoever reads along, and a line in a setting of the session that a restore
 * reads afterwards.
 */

const setting = 'caretaker.left_out'

/** PL/pgSQL for an exception handler. Neither text may hold the value of a setting: it could be a secret. */
export function noting(what: string, why: string): string {
  const line = literal(`${what.replaceAll(/\s+/g, ' ')}\t${why}`)
  return `raise warning 'left out: %', ${literal(what)}; perform pg_catalog.set_config(${literal(setting)}, pg_catalog.concat_ws(pg_catalog.chr(10), nullif(pg_catalog.current_setting(${literal(setting)}, true), ''), ${line} || ' (SQLSTATE ' || sqlstate || ')'), false);`
}

/** An anonymous block in single quotes: no name inside can end it. */
export function block(lines: readonly string[]): string {
  return `do ${literal(`begin\n${lines.join('\n')}\nend`)};`
}

/** What the statements run in this session had to leave out, each with its reason; asked once. */
export async function takeLeftOut(session: Session): Promise<{ statement: string; reason: string }[]> {
  const [row] = await session.query<{ lines: string | null }>('select current_setting($1, true) as lines', [setting])
  await session.query(`select set_config($1, '', false)`, [setting])
  return (row?.lines ?? '')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [statement = '', reason = ''] = line.split('\t')
      return { statement, reason }
    })
}
