import { copyFile, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { generateX25519Identity, identityToRecipient } from 'age-encryption'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { backupDatabase, listBackups, restoreBackup, verifyBackup } from '../../lib/backup/index.ts'
import { defineConfig } from '../../lib/config/index.ts'
import { openObjectStore } from '../../lib/drivers/objects/index.ts'
import type { Context } from '../../lib/platform/context.ts'
import { CaretakerError, hasCode } from '../../lib/platform/errors.ts'
import type { ObjectStore } from '../../lib/platform/objects.ts'
import { testContext } from '../support/context.ts'
import { createTestDatabase, type TestDatabase, useTestDatabase } from '../support/database.ts'
import fc from '../support/fast-check.ts'

const source = useTestDatabase({ template: 'template0' })
let folder: string
let backup: string
let identity: string
let ctx: Context
let target: TestDatabase
let id: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'caretaker-corrupt-'))
  identity = await generateX25519Identity()
  ctx = testContext(source.db, {
    config: defineConfig({ app: { name: 'Zoo' }, backup: { recipients: [await identityToRecipient(identity)] } }),
    objects: () => openObjectStore(`file://${folder}`, ctx.env),
  })
  await source.db.execute(`
    create table big (id int primary key, body text not null);
    alter table big alter column body set storage external;
    insert into big select n, repeat(md5(n::text), 100) from generate_series(1, 300) n;
    delete from big where id % 11 = 0;
    insert into big select 1000 + n, 'short' from generate_series(1, 500) n;
    create table twin_a (a int); insert into twin_a select generate_series(1, 100);
    create table twin_b (a int); insert into twin_b select generate_series(1, 100);
    select lo_from_bytea(0, 'a large object');`)
  await source.db.execute(`alter database ${source.name} set work_mem = '7MB'`)
  const report = await backupDatabase(ctx, { partBytes: 64 * 1024 })
  id = report.id
  backup = join(folder, 'backups', id)
  target = await createTestDatabase({ template: 'template0' })
})
afterAll(async () => {
  await target.drop()
  await rm(folder, { recursive: true, force: true })
})

async function files(): Promise<string[]> {
  const found = await readdir(backup, { recursive: true, withFileTypes: true })
  return found
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort()
}

/** Neither verify nor restore accepts the backup as it is now, and the target has not been touched. */
async function expectRefused(): Promise<void> {
  const verified = await verifyBackup(ctx, { id }).catch((error: unknown) => error)
  const restored = await restoreBackup(ctx, { id, identity, targetUrl: target.url }).catch((error: unknown) => error)
  const missing = hasCode(verified, 'object_missing')
  expect(hasCode(verified, 'backup_corrupt') || missing).toBe(true)
  expect(hasCode(restored, 'backup_corrupt') || missing).toBe(true)
  expect(await target.db.query("select relname from pg_class where relnamespace = 'public'::regnamespace")).toEqual([])
}

/** Runs `work` on a changed file, then puts it back. */
async function withChanged(file: string, change: (bytes: Buffer) => Buffer, work: () => Promise<void>): Promise<void> {
  const bytes = await readFile(file)
  await writeFile(file, change(Buffer.from(bytes)))
  try {
    await work()
  } finally {
    await writeFile(file, bytes)
  }
}

test('a table in many parts is made of many objects, and all of it comes back', async () => {
  expect((await readdir(join(backup, 'data'))).length).toBeGreaterThan(5)
  const whole = await createTestDatabase({ template: 'template0' })
  try {
    await restoreBackup(ctx, { id, identity, targetUrl: whole.url })
    const state = 'select count(*), sum(hashtextextended(big::text, 0)) from big'
    expect(await whole.db.query(state)).toEqual(await source.db.query(state))
  } finally {
    await whole.drop()
  }
})

describe('before the first row is written, restore and verify refuse', () => {
  test('any one bit changed in any file', async () => {
    const all = await files()
    for (const file of all) {
      const { length } = await readFile(file)
      await fc.assert(
        fc.asyncProperty(fc.integer({ min: 0, max: length * 8 - 1 }), async (bit) => {
          await withChanged(
            file,
            (bytes) => {
              bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7))
              return bytes
            },
            expectRefused,
          )
        }),
        { numRuns: /manifest|SHA256SUMS/.test(file) ? 40 : 2 },
      )
    }
  })

  test('a file cut short, emptied, or longer', async () => {
    for (const file of await files()) {
      await withChanged(file, (bytes) => bytes.subarray(0, -1), expectRefused)
      await withChanged(file, (bytes) => Buffer.concat([bytes, Buffer.from('\n')]), expectRefused)
    }
    const [first] = await files()
    await withChanged(first ?? '', () => Buffer.alloc(0), expectRefused)
  })

  test('two parts swapped', async () => {
    const data = (await files()).filter((file) => file.includes('/data/'))
    const [one, two] = [data[0] ?? '', data[1] ?? '']
    await rename(one, `${one}.kept`)
    await copyFile(two, one)
    await rename(`${one}.kept`, two)
    await expectRefused()
    await rename(two, `${two}.kept`)
    await copyFile(one, two)
    await rename(`${two}.kept`, one)
    expect(await verifyBackup(ctx, { id, identity })).toMatchObject({ checked: 'content' })
  })

  test('any file missing', async () => {
    for (const file of await files()) {
      const bytes = await readFile(file)
      await rm(file)
      await expectRefused()
      await writeFile(file, bytes)
    }
    expect(await verifyBackup(ctx, { id, identity })).toMatchObject({ checked: 'content' })
  })

  test('a manifest that was rewritten together with its sums, but says another thing than the objects hold', async () => {
    const { createHash } = await import('node:crypto')
    const sha256 = (bytes: Buffer | string) => createHash('sha256').update(bytes).digest('hex')
    const sums = await readFile(join(backup, 'SHA256SUMS'), 'utf8')
    await withChanged(
      join(backup, 'manifest.json'),
      (bytes) => Buffer.from(bytes.toString().replace('"bytes": ', '"bytes": 1')),
      async () => {
        const forged = await readFile(join(backup, 'manifest.json'))
        await withChanged(
          join(backup, 'SHA256SUMS'),
          () => Buffer.from(sums.replace(/[0-9a-f]{64} {2}manifest.json/, `${sha256(forged)}  manifest.json`)),
          expectRefused,
        )
      },
    )
  })
})

test('a damaged manifest is listed with what is wrong with it', async () => {
  await withChanged(
    join(backup, 'manifest.json'),
    (bytes) => Buffer.from(bytes.toString().replace('"rows": 100', '"rows": 101')),
    async () => {
      expect(await listBackups(ctx)).toEqual([expect.objectContaining({ id, problem: expect.stringContaining('SHA256SUMS') })])
    },
  )
})

describe('a store that fails', () => {
  /** A store over the folder that breaks its `nth` write. */
  async function breaking(nth: number, how: 'throws' | 'reads half' | 'keeps half'): Promise<ObjectStore> {
    const real = await openObjectStore(`file://${folder}`, ctx.env)
    let puts = 0
    return {
      ...real,
      url: real.url,
      get: (key, options) => real.get(key, options),
      head: (key) => real.head(key),
      list: (prefix) => real.list(prefix),
      downloadUrl: (key, options) => real.downloadUrl(key, options),
      delete: (key) => real.delete(key),
      async put(key, body, options) {
        puts++
        if (puts !== nth) return real.put(key, body, options)
        if (how === 'throws') throw new CaretakerError('object_store_failed', 'The store is down.')
        if (body instanceof Readable) {
          const chunks: Buffer[] = []
          for await (const chunk of body) {
            chunks.push(chunk as Buffer)
            if (how === 'reads half') throw new CaretakerError('object_store_failed', 'The store went away.')
          }
          const whole = Buffer.concat(chunks)
          return real.put(key, whole.subarray(0, whole.length >> 1), options)
        }
        return real.put(key, body.subarray(0, body.length >> 1), options)
      },
    }
  }

  test.each([
    [1, 'throws'],
    [4, 'throws'],
    [4, 'reads half'],
    [7, 'keeps half'],
    [1_000, 'throws'],
  ] as const)('at its write %i (%s): the backup fails, shows nowhere and leaves nothing', async (nth, how) => {
    const before = (await readdir(join(folder, 'backups'))).length
    const outcome = await backupDatabase({ ...ctx, objects: () => breaking(nth, how) }, { partBytes: 64 * 1024 }).catch(
      (error: unknown) => error,
    )
    if (nth === 1_000) {
      expect(outcome).toMatchObject({ id: expect.any(String) })
      return
    }
    expect(hasCode(outcome, 'object_store_failed')).toBe(true)
    expect((await listBackups(ctx)).map((one) => one.id)).toEqual([id])
    expect((await readdir(join(folder, 'backups'))).length).toBeLessThanOrEqual(before + 1)
    expect(await files()).not.toEqual([])
  })
})
