import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { generateX25519Identity, identityToRecipient } from 'age-encryption'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { backupDatabase, restoreAt, stopIncrements, takeIncrement, verifyBackup } from '../../../lib/backup/index.ts'
import type { Context } from '../../../lib/platform/context.ts'
import { CaretakerError } from '../../../lib/platform/errors.ts'
import { createTestDatabase, type TestDatabase } from '../../support/database.ts'
import fc from '../../support/fast-check.ts'
import { useOwnServer } from '../../support/own-server.ts'
import { createProject, type Project, projectContext, putFile } from '../files/project.ts'
import { timeOf } from './workload.ts'

useOwnServer()

/*
 * Everything that a backup with files and increments is made of, one object after the other: with a bit changed, cut short, made
 * longer, lost, or replaced by another of its kind. Nothing may be restored from it.
 */

let project: Project
let folder: string
let identity: string
let ctx: Context
let target: TestDatabase
let id: string
/** After the last increment's changes. */
let moment: string
let objects: string[]

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'caretaker-every-object-'))
  identity = await generateX25519Identity()
  project = await createProject()
  ctx = projectContext(project, folder, { recipients: [await identityToRecipient(identity)], buckets: ['notes'], increments: {} })
  await project.supabase.storage.createBucket('notes')
  await putFile(project, 'notes', 'one.txt', Buffer.from('one'), { contentType: 'text/plain' })
  await putFile(project, 'notes', 'two.txt', Buffer.from('two, which is longer'), { contentType: 'text/plain' })
  const { db } = project.database
  await db.execute('create table public.t (id int primary key, body text); insert into public.t values (0, $$before$$)')
  await takeIncrement(ctx)
  id = (await backupDatabase(ctx)).id
  for (let number = 1; number <= 3; number++) {
    await db.execute('insert into public.t values ($1::int, md5($1::text))', [number])
    moment = await timeOf(db)
    await takeIncrement(ctx)
  }
  target = await createTestDatabase({ template: 'template0' })
  const found = await readdir(folder, { recursive: true, withFileTypes: true })
  objects = found
    .filter((entry) => entry.isFile())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
    .filter((key) => !/\/(RESTORE\.md|restore\.sh)$/.test(key))
    .sort()
})
afterAll(async () => {
  await stopIncrements(ctx)
  await target.drop()
  await project.drop()
  await rm(folder, { recursive: true, force: true })
})

const refusalOf = (work: Promise<unknown>) =>
  work.then(
    () => 'nothing refused it',
    (error: unknown) => (error instanceof CaretakerError ? error.code : String(error)),
  )

/** What uses the object refuses, and has written nothing. */
async function expectRefused(key: string, why: string): Promise<void> {
  const refusals = /^(backup_corrupt|object_missing|backup_untrusted|invalid_input)$/
  if (key.startsWith('increments/')) {
    expect(await refusalOf(restoreAt(ctx, { at: moment, identity, targetUrl: target.url })), `${key}: ${why}`).toMatch(refusals)
  } else {
    expect(await refusalOf(verifyBackup(ctx, { id, identity })), `${key}: ${why}`).toMatch(refusals)
    // Contents of files are no part of the rows; each is held against its hash when it is put back.
    if (!key.startsWith('files/'))
      expect(await refusalOf(restoreAt(ctx, { at: moment, identity, targetUrl: target.url })), `${key}: ${why}`).toMatch(refusals)
  }
  expect(await target.db.query(`select from pg_namespace where nspname in ('storage', 'auth')`)).toEqual([])
}

async function withChanged(key: string, change: (bytes: Buffer) => Buffer | null, why: string): Promise<void> {
  const path = join(folder, key)
  const bytes = await readFile(path)
  const changed = change(Buffer.from(bytes))
  try {
    if (changed === null) await rm(path)
    else await writeFile(path, changed)
    await expectRefused(key, why)
  } finally {
    await writeFile(path, bytes)
  }
}

const kindOf = (key: string) => key.replace(/\d{8}T\d{6}Z-[0-9a-f]{8}/, 'ID').replace(/[0-9a-f]{2}\/[0-9a-f]{32}|\d{6}(-[0-9a-f]{8})?/, 'N')

describe('of all that is stored', () => {
  test('there is one of every kind', () => {
    expect([...new Set(objects.map(kindOf))].sort()).toEqual([
      'backups/ID/SHA256SUMS',
      'backups/ID/SHA256SUMS.sig',
      'backups/ID/data/N.copy.zst.age',
      'backups/ID/file-references.ndjson',
      'backups/ID/files.ndjson.zst.age',
      'backups/ID/manifest.json',
      'backups/ID/post-data.sql.zst.age',
      'backups/ID/pre-data.sql.zst.age',
      'backups/ID/roles.sql.zst.age',
      'backups/ID/sequences.sql.zst.age',
      'files/N.zst.age',
      'increments/ID/N.changes.zst.age',
      'increments/ID/N.json',
      'increments/ID/stream.json',
    ])
  })

  test('any one bit changed is found', async () => {
    for (const key of objects) {
      const { length } = await readFile(join(folder, key))
      for (const bit of fc.sample(fc.integer({ min: 0, max: length * 8 - 1 }), key.includes('/data/') ? 1 : 2))
        await withChanged(
          key,
          (bytes) => {
            bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7))
            return bytes
          },
          `bit ${bit}`,
        )
    }
  })

  test('anything cut short, made longer or lost is found', async () => {
    for (const key of objects.filter((one) => !one.includes('/data/') || one.endsWith('000001.copy.zst.age'))) {
      await withChanged(key, (bytes) => bytes.subarray(0, -1), 'cut short')
      await withChanged(key, (bytes) => Buffer.concat([bytes, Buffer.from('\n')]), 'longer')
      // The first increment ended before the backup was made: nothing needs it any more.
      if (!key.endsWith('/000001.json')) await withChanged(key, () => null, 'lost')
    }
  })

  test('anything replaced by another of its kind is found, though that one is whole, and signed', async () => {
    const second = (await backupDatabase(ctx)).id
    const byKind = Map.groupBy(objects, kindOf)
    for (const [kind, keys] of byKind) {
      const [one, other] = keys
      if (one === undefined) continue
      // Of what a backup has one of, that of the other backup.
      const from = kind.startsWith('backups/') ? one.replace(id, second) : other
      if (from === undefined) continue
      const bytes = await readFile(join(folder, from))
      // Files that did not change are referred to in the same words.
      if (bytes.equals(await readFile(join(folder, one)))) continue
      await withChanged(one, () => bytes, `replaced by ${from}`)
    }
    await rm(join(folder, 'backups', second), { recursive: true })
  })

  test('and unchanged it is what it was', async () => {
    expect(await verifyBackup(ctx, { id, identity })).toMatchObject({ checked: 'content', files: { files: 2 } })
    expect(await restoreAt(ctx, { at: moment, identity, targetUrl: target.url })).toMatchObject({ changes: 3 })
    expect(await target.db.query('select count(*)::int from public.t')).toEqual([{ count: 4 }])
  })
})
