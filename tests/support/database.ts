import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll } from 'vitest'
import { type Database, openDatabase } from '../../lib/platform/db.ts'
import { serverUrl } from './own-server.ts'

export interface TestDatabase {
  db: Database
  url: string
  name: string
  drop(): Promise<void>
}

/** A new database; a clone of the migrated template, unless `template: 'template0'` asks for an empty one. */
export async function createTestDatabase(options: { template?: string } = {}): Promise<TestDatabase> {
  const pattern = serverUrl()
  const name = `test_${randomBytes(6).toString('hex')}`
  const admin = openDatabase({ sessionUrl: pattern.replace('%s', 'postgres'), maxConnections: 1 })
  // Without fsync copying the files is cheaper than logging every page of them.
  await admin.execute(`create database ${name} template ${options.template ?? 'template_caretaker'} strategy file_copy`)
  const url = pattern.replace('%s', name)
  const db = openDatabase({ sessionUrl: url, maxConnections: 10 })
  return {
    db,
    url,
    name,
    async drop() {
      await db.close()
      await admin.execute(`drop database if exists ${name} with (force)`)
      await admin.close()
    },
  }
}

/** A database for the calling test file (or `describe`), dropped after it. Read the fields inside tests, not before. */
export function useTestDatabase(options: { template?: string } = {}): TestDatabase {
  let made: TestDatabase | undefined
  beforeAll(async () => {
    made = await createTestDatabase(options)
  })
  afterAll(async () => {
    await made?.drop()
  })
  const current = () => {
    if (made === undefined) throw new Error('useTestDatabase: read inside a test or hook')
    return made
  }
  return {
    get db() {
      return current().db
    },
    get url() {
      return current().url
    },
    get name() {
      return current().name
    },
    drop: () => current().drop(),
  }
}
