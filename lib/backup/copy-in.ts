import copyStreams from 'pg-copy-streams'
import type { Session } from '../platform/db.ts'
import { type Opening, readObjectInto } from './object-stream.ts'

/**
 * Runs `COPY … FROM STDIN` with what `object` holds, through `stages`. The COPY begins only when the store gives the object: a
 * connection that breaks while nobody listens to the COPY's stream would end the process.
 * @returns how many rows the server took
 */
export async function copyObjectIn(
  opening: Opening,
  object: { key: string },
  session: Session,
  sql: string,
  stages: readonly NodeJS.ReadWriteStream[],
): Promise<number> {
  const copy = copyStreams.from(sql)
  await readObjectInto(opening, object, () => [...stages, session.client.query(copy)])
  return copy.rowCount
}
