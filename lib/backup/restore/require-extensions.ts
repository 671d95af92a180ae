import type { Session } from '../../platform/db.ts'
import { CaretakerError } from '../../platform/errors.ts'
import type { Manifest } from '../manifest.ts'

/**
 * Says of all extensions at once which the target's server does not have, before anything is made there.
 * @throws {CaretakerError} `invalid_input`
 */
export async function requireExtensions(session: Session, manifest: Pick<Manifest, 'id' | 'extensions'>): Promise<void> {
  const missing = await session.query<{ name: string }>(
    `select wanted.name from unnest($1::text[]) wanted (name)
     where not exists (select from pg_catalog.pg_available_extensions a where a.name = wanted.name)
       and not exists (select from pg_catalog.pg_extension e where e.extname = wanted.name) order by 1`,
    [manifest.extensions.map((extension) => extension.name)],
  )
  if (missing.length === 0) return
  const names = missing.map(({ name }) => name).join(', ')
  throw new CaretakerError(
    'invalid_input',
    `The target's server does not have ${missing.length === 1 ? 'the extension' : 'the extensions'} ${names}, which backup ${manifest.id} needs. Nothing was restored. Install what the server lacks (select name from pg_available_extensions shows what it has), or give a server that has it.`,
  )
}
