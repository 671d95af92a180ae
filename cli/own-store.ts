import { createHash } from 'node:crypto'
import { access, constants, mkdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Context } from '../lib/platform/context.ts'
import { CaretakerError } from '../lib/platform/errors.ts'
import type { ObjectStore } from '../lib/platform/objects.ts'

/**
 * The object store of a database that no setting names one for: a folder of its own in the data folder, so that what is
 * journalled of it outside of the database (who was erased) is found again, and never taken for another database's.
 * @param note is told once, when something is stored there
 * @throws {CaretakerError} `not_configured` when asked for where the data folder cannot be written
 */
export function ownStore(options: {
  dataDirectory: string
  databaseUrl: string
  env: Context['env']
  note: (line: string) => void
}): Context['objects'] {
  let opened: Promise<ObjectStore> | undefined
  const open = async (): Promise<ObjectStore> => {
    const folder = join(options.dataDirectory, 'databases', databaseTag(options.databaseUrl))
    if (!(await mayWrite(folder)))
      throw new CaretakerError('not_configured', 'There is no object store: set `backup.store` in the policy, or pass --store.')
    const { openObjectStore } = await import('../lib/drivers/objects/index.ts')
    const store = await openObjectStore(pathToFileURL(join(folder, 'objects')).href, options.env)
    let noted = false
    return {
      ...store,
      put: async (...given) => {
        await mkdir(join(folder, 'objects'), { recursive: true, mode: 0o700 })
        const stored = await store.put(...given)
        if (!noted) options.note(`No object store is set: ${folder} is this database's (set \`backup.store\`, or pass --store).`)
        noted = true
        return stored
      },
    }
  }
  return () => {
    opened ??= open()
    return opened
  }
}

/** The database, whoever connects to it: host, port and name. */
export function databaseTag(databaseUrl: string): string {
  const { hostname, port, pathname } = new URL(databaseUrl)
  const where = `${hostname.toLowerCase()}:${port === '' ? '5432' : port}/${decodeURIComponent(pathname.slice(1))}`
  return createHash('sha256').update(where).digest('hex').slice(0, 16)
}

async function mayWrite(path: string): Promise<boolean> {
  try {
    await access(path, constants.W_OK)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || dirname(path) === path) return false
    return mayWrite(dirname(path))
  }
}
