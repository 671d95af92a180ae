import { readFile } from 'node:fs/promises'
import type { Database } from '../../lib/platform/db.ts'

/** Makes one of every kind of object in `db`, which is empty. */
export async function makeZoo(db: Database): Promise<void> {
  for (const role of ['zoo_owner', 'zoo_reader']) {
    // Files of tests run at once on one server, and roles are the server's.
    await db.execute(`do $$ begin create role ${role}; exception when duplicate_object or unique_violation then null; end $$`)
  }
  await db.execute(await readFile(new URL('./object-zoo.sql', import.meta.url), 'utf8'))
}
