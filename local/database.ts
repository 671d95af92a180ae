import { chmod, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { openDatabase } from '../lib/platform/db.ts'
import { CaretakerError } from '../lib/platform/errors.ts'
import { applyMigrations } from '../lib/platform/migrations.ts'
import { exampleFile, installExample } from './example.ts'
import type { LocalPostgres } from './postgres.ts'

/** The app's database on the local server. */
export const databaseName = 'app'
/** Where restore drills restore to. */
export const drillDatabaseName = 'drill'
const loadingName = 'app_loading'

export interface DatabaseOptions {
  server: LocalPostgres
  filesDirectory: string
  /** Undefined: whatever the folder holds, `canai` when it is new. */
  example: string | undefined
  rows: number | undefined
  say: (line: string) => void
}

/**
 * Sees to it that the app's database is there, whole and migrated. It is loaded under another name and renamed at the
 * end, so that a kill leaves nothing or everything.
 * @returns the example it holds, and how many rows were loaded just now (null when it was there)
 * @throws {CaretakerError} `local_stack` when the folder holds another example
 */
export async function prepareDatabase(options: DatabaseOptions): Promise<{ example: string; rows: number | null }> {
  const { server, example, say } = options
  const admin = openDatabase({ sessionUrl: server.url(), maxConnections: 1 })
  try {
    const [found] = await admin.query<{ example: string }>(
      `select coalesce(shobj_description(oid, 'pg_database'), '') as example from pg_database where datname = $1`,
      [databaseName],
    )
    if (found !== undefined && example !== undefined && example !== found.example)
      throw new CaretakerError(
        'local_stack',
        `This data folder holds the example "${found.example}". Use another folder for "${example}": --data DIR`,
      )
    if (found !== undefined && options.rows !== undefined) say('The example is loaded already: --rows has no effect.')
    let loaded: number | null = null
    if (found === undefined) {
      const name = example ?? 'canai'
      say(`Loading the example "${name}" …`)
      await admin.execute(`drop database if exists ${loadingName} with (force)`)
      await admin.execute(`create database ${loadingName}`)
      loaded = await load(options, name)
      await admin.execute(`comment on database ${loadingName} is '${name}'`)
      await admin.execute(`alter database ${loadingName} rename to ${databaseName}`)
    }
    const [drills] = await admin.query(`select from pg_database where datname = $1`, [drillDatabaseName])
    if (drills === undefined) await admin.execute(`create database ${drillDatabaseName} template template0`)
    const db = openDatabase({ sessionUrl: server.url(databaseName), maxConnections: 1 })
    try {
      const applied = await applyMigrations(db)
      if (applied.length > 0 && found !== undefined)
        say(`Applied ${applied.length === 1 ? 'migration' : 'migrations'} ${applied.join(', ')}.`)
    } finally {
      await db.close()
    }
    return { example: found?.example ?? example ?? 'canai', rows: loaded }
  } finally {
    await admin.close()
  }
}

async function load(options: DatabaseOptions, name: string): Promise<number> {
  const db = openDatabase({ sessionUrl: options.server.url(loadingName), maxConnections: 2 })
  try {
    const rows = await installExample(db, name, options.rows === undefined ? {} : { rows: options.rows })
    await mkdir(options.filesDirectory, { recursive: true })
    await chmod(options.filesDirectory, 0o700)
    const files = await db.query<{ name: string; version: string; bytes: number }>(
      `select name, version, (metadata ->> 'size')::int as bytes from storage.objects`,
    )
    for (const file of files) await writeFile(join(options.filesDirectory, file.version), exampleFile(file))
    return Object.values(rows).reduce((sum, count) => sum + count, 0)
  } finally {
    await db.close()
  }
}
