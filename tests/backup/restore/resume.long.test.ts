import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { backupDatabase, type RestoreInput, type RestoreReport, restoreBackup } from '../../../lib/backup/index.ts'
import { readManifest } from '../../../lib/backup/manifest.ts'
import { defineConfig } from '../../../lib/config/index.ts'
import { openObjectStore } from '../../../lib/drivers/objects/index.ts'
import type { Context } from '../../../lib/platform/context.ts'
import { CaretakerError } from '../../../lib/platform/errors.ts'
import { testContext } from '../../support/context.ts'
import { createTestDatabase, type TestDatabase, useTestDatabase } from '../../support/database.ts'
import { contentsOf, schemaOf } from '../state.ts'
import { makeZoo } from '../zoo.ts'
import { type GatedStore, gatedStore } from './gated-store.ts'

const source = useTestDatabase({ template: 'template0' })
let folder: string
let ctx: Context
let store: GatedStore
let id: string
let target: TestDatabase

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'caretaker-resume-'))
  ctx = testContext(source.db, {
    config: defineConfig({ app: { name: 'Resume' }, backup: { encryption: 'none', connections: 2 } }),
    objects: () => Promise.resolve(store),
  })
  store = gatedStore(await openObjectStore(`file://${folder}`, ctx.env))
  await makeZoo(source.db)
  // A materialised view that reads a view.
  await source.db.execute('create materialized view zoo.unhappy as select count(*) from zoo.happy; refresh materialized view zoo.unhappy')
  id = (await backupDatabase(ctx)).id
})
afterAll(() => rm(folder, { recursive: true, force: true }))
beforeEach(async () => {
  store = gatedStore(await openObjectStore(`file://${folder}`, ctx.env))
  target = await createTestDatabase({ template: 'template0' })
})
afterEach(() => target.drop())

/** The object that holds the rows of a table. */
async function rowsOf(name: string): Promise<string> {
  const { manifest } = await readManifest(store, id)
  const part = manifest.tables.find((table) => `${table.schema}.${table.name}` === name)?.parts[0]
  if (part === undefined) throw new Error(`no rows of ${name}`)
  return part.key
}

const restore = (input: Partial<RestoreInput> = {}, context = ctx): Promise<RestoreReport> =>
  restoreBackup(context, { id, targetUrl: target.url, ...input })

async function failureOf(work: Promise<unknown>): Promise<CaretakerError> {
  const error = await work.then(
    () => new Error('it did not fail'),
    (cause: unknown) => cause,
  )
  if (!(error instanceof CaretakerError)) throw error
  return error
}

/** A restore that somebody stops when the rows of `table` are asked for. */
async function stopAt(table: string, input: Partial<RestoreInput> = {}): Promise<CaretakerError> {
  const held = store.hold(await rowsOf(table))
  const stop = new AbortController()
  const failing = failureOf(restore(input, { ...ctx, signal: stop.signal }))
  await Promise.race([held.asked, failing])
  stop.abort(new CaretakerError('timeout', 'Stopped by the operator.'))
  const failure = await failing
  held.release()
  return failure
}

async function expectWhole(): Promise<void> {
  expect(await schemaOf(target.url)).toBe(await schemaOf(source.url))
  expect(await contentsOf(target.db)).toEqual(await contentsOf(source.db))
}

describe('a restore that was stopped', () => {
  test('says how far it is and goes on, without loading again what is there', async () => {
    const failure = await stopAt('zoo.children')
    expect(failure.code).toBe('timeout')
    expect(failure.detail).toMatch(
      /^Stopped by the operator\. The target is not whole: \d+ of \d+ tables are in \(\d+ bytes\)\. Go on with --resume, or start anew with --clean test_/,
    )

    const refused = await failureOf(restore())
    expect(refused.code).toBe('restore_target_not_empty')
    expect(refused.detail).toMatch(
      new RegExp(`^The target holds half a restore of backup ${id}, begun at .*: \\d+ tables are in\\. Go on with --resume`),
    )

    const loaded = await target.db.query<{ name: string }>(
      `select substr(step, 6) as name from caretaker_restore.done where step like 'rows:%'`,
    )
    expect(loaded.length).toBeGreaterThan(0)
    const keys = await Promise.all(loaded.map((row) => rowsOf(row.name)))
    store.read.length = 0
    const report = await restore({ resume: true })
    expect(report).toMatchObject({ runs: 2, skipped: [] })
    expect(report.tables.every((table) => table.verified)).toBe(true)
    for (const key of keys) expect(store.read.some((one) => one.endsWith(key))).toBe(false)
    await expectWhole()
  })

  test('goes on with open groups, too, and keeps what the app has written', async () => {
    const early = { openEarly: () => Promise.resolve(null), resume: true }
    const grouped = {
      ...ctx,
      config: defineConfig({
        app: { name: 'Resume' },
        backup: { encryption: 'none', restoreOrder: { first: ['zoo.empty'], last: ['zoo.dropped'] } },
      }),
    }
    const held = store.hold(await rowsOf('zoo.dropped'))
    const stop = new AbortController()
    const opened = Promise.withResolvers<void>()
    const failing = failureOf(
      restore(
        { ...early, onProgress: (step) => (step.phase === 'open' ? opened.resolve() : undefined) },
        { ...grouped, signal: stop.signal },
      ),
    )
    await Promise.race([Promise.all([held.asked, opened.promise]), failing])
    await target.db.execute('insert into zoo.empty values (4711)')
    stop.abort(new CaretakerError('timeout', 'Stopped by the operator.'))
    expect((await failing).code).toBe('timeout')
    held.release()
    expect(await restore(early, grouped)).toMatchObject({ runs: 2, notEarly: null })
    expect(await target.db.query('select * from zoo.empty')).toEqual([{ a: 4711 }])
    expect(await schemaOf(target.url)).toBe(await schemaOf(source.url))
  })

  test('is started anew with --clean', async () => {
    await stopAt('zoo.parents')
    expect(await restore({ clean: target.name })).toMatchObject({ runs: 1 })
    await expectWhole()
  })

  test('is not mixed with another backup, and "latest" means the one it began with', async () => {
    await stopAt('zoo.parents')
    const other = await backupDatabase(ctx)
    expect((await failureOf(restore({ id: other.id, resume: true }))).detail).toContain(
      `Backup ${other.id} cannot be added to it: go on with \`caretaker backup restore ${id} --to URL --resume\``,
    )
    const report = await restore({ id: 'latest', resume: true })
    expect(report.id).toBe(id)
    await expectWhole()
  })
})

test('with nothing to go on with, --resume begins', async () => {
  expect(await restore({ resume: true })).toMatchObject({ runs: 1 })
  await expectWhole()
})

test('only one restore at a time works on a database', async () => {
  const held = store.hold(await rowsOf('zoo.parents'))
  const first = restore()
  await Promise.race([held.asked, first])
  const failure = await failureOf(restore({}, { ...ctx, objects: () => openObjectStore(`file://${folder}`, ctx.env) }))
  expect(failure).toMatchObject({
    code: 'conflict',
    detail: expect.stringMatching(/^Another restore into this database is under way \(process \d+/),
  })
  held.release()
  await first
  await expectWhole()
})

test.each([
  [{ clean: 'x', resume: true }, '--clean and --resume exclude each other'],
  [{ only: ['zoo.parents'], clean: 'x' }, '--only and --clean exclude each other'],
])('%j is refused', async (input, message) => {
  expect(await failureOf(restore(input))).toMatchObject({ code: 'bad_request', detail: expect.stringContaining(message) })
})
