import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmdirSync } from 'node:fs'
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { backupDatabase, listBackups, pruneBackups, restoreBackup } from '../../../lib/backup/index.ts'
import { defineConfig } from '../../../lib/config/index.ts'
import { openObjectStore } from '../../../lib/drivers/objects/index.ts'
import { openS3Store } from '../../../lib/drivers/objects/s3.ts'
import { fixedClock } from '../../../lib/platform/clock.ts'
import type { Context } from '../../../lib/platform/context.ts'
import { type Database, openDatabase } from '../../../lib/platform/db.ts'
import { readEnv } from '../../../lib/platform/env.ts'
import { CaretakerError } from '../../../lib/platform/errors.ts'
import type { ObjectStore } from '../../../lib/platform/objects.ts'
import { type LocalPostgres, startPostgres } from '../../../local/postgres.ts'
import { testContext } from '../../support/context.ts'
import { type S3Server, startS3Server } from '../../support/s3-server.ts'
import { startAgain } from '../../support/start-again.ts'
import { contentsOf } from '../state.ts'

/*
 * What goes wrong around a backup, each on a server of its own that may be restarted. After every one of them: the failure says
 * what and how far, nothing shows as complete, and the next run works.
 */

const mib = 1_048_576
let home: string
let server: LocalPostgres
let source: Database
let folder: string
let databases = 0

const settings = { fsync: 'off', synchronous_commit: 'off' }

/** A small file system that fills up takes root, and a machine that lets root mount: not every container does. */
const mayMount = (() => {
  const at = mkdtempSync(join(tmpdir(), 'caretaker-mount-'))
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', at], { stdio: 'ignore' })
    execFileSync('umount', [at])
    return true
  } catch {
    return false
  } finally {
    rmdirSync(at)
  }
})()

async function newDatabase(name = `target_${++databases}`): Promise<string> {
  const admin = openDatabase({ sessionUrl: server.url(), maxConnections: 1 })
  await admin.execute(`create database ${name} template template0`)
  await admin.close()
  return server.url(name)
}

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'caretaker-faults-'))
  server = await startPostgres({ directory: join(home, 'server'), settings })
  const url = await newDatabase('source')
  source = openDatabase({ sessionUrl: url, maxConnections: 5 })
  // Hardly compressible, so that it does not fit where it should not.
  await source.execute(`create schema app; create table app.notes (id int primary key, body text not null);
    insert into app.notes select n, (select string_agg(encode(sha512((n::text || part)::bytea), 'base64'), '') from generate_series(1, 20) part) from generate_series(1, 12000) n;
    create table app.small (id int primary key references app.notes, at timestamptz default now()); insert into app.small select n from generate_series(1, 500) n;
    create table app.other (id int, note text); insert into app.other select n, 'other' from generate_series(1, 500) n`)
})
afterAll(async () => {
  await source.close()
  await server.stop()
  await rm(home, { recursive: true, force: true })
})
beforeEach(async () => {
  folder = await mkdtemp(join(home, 'store-'))
})
afterEach(() => rm(folder, { recursive: true, force: true }))

function contextOf(objects: () => Promise<ObjectStore>): Context {
  return testContext(source, {
    config: defineConfig({ app: { name: 'Faults' }, backup: { encryption: 'none', keep: { daily: 7 } } }),
    objects,
  })
}

function inFolder(path = folder): Context {
  return contextOf(() => openObjectStore(`file://${path}`, readEnv({})))
}

async function failureOf(work: Promise<unknown>): Promise<CaretakerError> {
  const error = await work.then(
    () => new Error('it did not fail'),
    (cause: unknown) => cause,
  )
  if (!(error instanceof CaretakerError)) throw error
  return error
}

async function keysOf(ctx: Context): Promise<string[]> {
  const keys: string[] = []
  for await (const object of (await ctx.objects()).list('')) keys.push(object.key)
  return keys
}

/** Nothing shows; what is left goes with the next prune that is a day later; the next run is whole. */
async function expectRecovered(ctx: Context, after: Context = ctx): Promise<void> {
  expect(await listBackups(after)).toEqual([])
  await pruneBackups({ ...after, clock: fixedClock(new Date(Date.now() + 48 * 3_600_000)) })
  expect(await keysOf(after)).toEqual([])
  const report = await backupDatabase(after)
  expect((await listBackups(after)).map((backup) => backup.id)).toEqual([report.id])
  const url = await newDatabase()
  await restoreBackup(after, { id: report.id, targetUrl: url })
  const target = openDatabase({ sessionUrl: url, maxConnections: 2 })
  try {
    expect(await contentsOf(target)).toEqual(await contentsOf(source))
  } finally {
    await target.close()
  }
}

/** Calls `then` once, when that many bytes of the table have been read. */
function onceAfter(bytes: number, then: () => void): { onProgress: (step: { phase: string; what: string; doneBytes: number }) => void } {
  let called = false
  return {
    onProgress(step) {
      if (called || step.doneBytes < bytes || (step.phase !== 'data' && step.phase !== 'load')) return
      called = true
      then()
    },
  }
}

/** A store that waits before each object of rows until the promise is there: time for something else to happen. */
function waiting(url: string, until: () => Promise<void>): () => Promise<ObjectStore> {
  return async () => {
    const store = await openObjectStore(url, readEnv({}))
    return {
      ...store,
      async put(key, body, options) {
        if (key.includes('/data/')) await until()
        return store.put(key, body, options)
      },
    }
  }
}

async function endBackends(pattern: string): Promise<number> {
  const ended = await source.query(
    `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() and query ilike $1`,
    [pattern],
  )
  return ended.length
}

describe('the store', () => {
  test.runIf(mayMount)('is a disk that fills up', async () => {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', folder])
    const ctx = inFolder()
    try {
      const failure = await failureOf(backupDatabase(ctx))
      expect(failure.code).toBe('object_store_failed')
      expect(failure.detail).toMatch(/^Table app\.notes failed after \d{5,} bytes: .*no space is left on the disk \(ENOSPC\)/)
      expect(await listBackups(ctx)).toEqual([])
      // Nothing of it stays, not even hidden: the room is free again.
      expect(Number(execFileSync('du', ['-sk', folder]).toString().split('\t')[0])).toBeLessThan(64)
      execFileSync('mount', ['-o', 'remount,size=200m', folder])
      await expectRecovered(ctx)
    } finally {
      execFileSync('umount', [folder])
    }
    expect((await stat(folder)).isDirectory()).toBe(true)
  })

  describe('over the network', () => {
    let s3: S3Server
    let ctx: Context
    let impatient: Context
    beforeEach(async () => {
      s3 = await startS3Server()
      const env = readEnv({
        S3_ENDPOINT: s3.endpoint,
        S3_REGION: s3.region,
        S3_ACCESS_KEY_ID: s3.accessKeyId,
        S3_SECRET_ACCESS_KEY: s3.secretAccessKey,
      })
      impatient = contextOf(() => Promise.resolve(openS3Store(`s3://${s3.bucket}/db`, env, { timeoutMs: 1_500, retryDelayMs: 1 })))
      ctx = contextOf(() => Promise.resolve(openS3Store(`s3://${s3.bucket}/db`, env, { retryDelayMs: 1 })))
    })
    afterEach(() => s3.close())

    test('refuses', async () => {
      s3.fail({ on: 'PutObject', answer: { status: 403, code: 'AccessDenied' } })
      const failure = await failureOf(backupDatabase(ctx))
      expect(failure).toMatchObject({ code: 'object_store_failed', detail: expect.stringContaining('AccessDenied') })
      await expectRecovered(ctx)
    })

    test('is cut off in the middle of an upload in parts, again and again', async () => {
      s3.fail(...Array.from({ length: 12 }, () => ({ on: 'UploadPart', break: 'cut' }) as const))
      const failure = await failureOf(backupDatabase(ctx))
      expect(failure.code).toBe('object_store_failed')
      expect(failure.detail).toMatch(/^Table app\.notes failed after \d{5,} bytes: /)
      expect(s3.log).toContain('AbortMultipartUpload')
      expect(s3.uploads.size).toBe(0)
      expect([...s3.objects.keys()]).toEqual([])
      // Faults that were not met would meet the next run.
      await s3.close()
      s3 = await startS3Server()
      const env = readEnv({
        S3_ENDPOINT: s3.endpoint,
        S3_REGION: s3.region,
        S3_ACCESS_KEY_ID: s3.accessKeyId,
        S3_SECRET_ACCESS_KEY: s3.secretAccessKey,
      })
      await expectRecovered(contextOf(() => Promise.resolve(openS3Store(`s3://${s3.bucket}/db`, env))))
    })

    test('is cut off once, and the backup does not mind', async () => {
      s3.fail({ on: 'UploadPart', break: 'cut' }, { on: 'PutObject', break: 'deaf' }, { on: 'CompleteMultipartUpload', break: 'deaf' })
      const report = await backupDatabase(ctx)
      expect((await listBackups(ctx)).map((backup) => backup.id)).toEqual([report.id])
      expect(s3.uploads.size).toBe(0)
    })

    test('does not answer', async () => {
      s3.fail(...Array.from({ length: 4 }, () => ({ on: 'CreateMultipartUpload', break: 'hang' }) as const))
      const failure = await failureOf(backupDatabase(impatient))
      expect(failure).toMatchObject({ code: 'object_store_failed', detail: expect.stringContaining('Table app.notes') })
      await expectRecovered(ctx)
    })

    test('loses bytes that it acknowledged', async () => {
      s3.fail({ on: 'PutObject', break: 'lose' })
      expect(await failureOf(backupDatabase(ctx))).toMatchObject({ code: 'object_store_failed' })
      await expectRecovered(ctx)
    })

    test('is slow: the backup takes as long, and is whole', async () => {
      s3.fail({ on: 'UploadPart', slow: delay(400) }, { on: 'PutObject', slow: delay(400) })
      const report = await backupDatabase(ctx)
      expect((await listBackups(ctx)).map((backup) => backup.id)).toEqual([report.id])
    })

    test('is gone', async () => {
      await s3.close()
      expect(await failureOf(backupDatabase(ctx))).toMatchObject({ code: 'object_store_failed' })
      s3 = await startS3Server()
    })
  })
})

describe('the database', () => {
  test('is restarted in the middle of a dump', async () => {
    const ctx = inFolder()
    let restarted: Promise<void> | undefined
    const failure = await failureOf(
      backupDatabase(
        ctx,
        onceAfter(2 * mib, () => {
          restarted = restart()
        }),
      ),
    )
    await restarted
    expect(failure.code).toMatch(/^(backup_incomplete|database_unavailable)$/)
    // Rows and schema are read at once: it is told of the one that heard of it first.
    expect(failure.detail).toMatch(
      /(app\.\w+ failed after \d+ bytes: .*(terminat|closed|shut)|^The schema could not be read: .*(lost|terminat)).*Run the backup again/i,
    )
    await expectRecovered(ctx)
  })

  test('ends the session of one COPY', async () => {
    let ended: Promise<number> | undefined
    const ctx = contextOf(
      waiting(`file://${folder}`, async () => {
        ended ??= (async () => {
          let count = 0
          while (count === 0) count = await endBackends('copy%app%notes%')
          return count
        })()
        await ended
      }),
    )
    const failure = await failureOf(backupDatabase(ctx))
    expect(await ended).toBeGreaterThan(0)
    expect(failure.code).toBe('backup_incomplete')
    expect(failure.detail).toMatch(/^Table app\.notes failed after \d+ bytes: .*terminat/i)
    await expectRecovered(ctx, inFolder())
  })

  test('is read by two backups at once: both are whole', async () => {
    const ctx = inFolder()
    const reports = await Promise.all([backupDatabase(ctx), backupDatabase(ctx)])
    expect((await listBackups(ctx)).map((backup) => backup.id).sort()).toEqual(reports.map((report) => report.id).sort())
    for (const report of reports) await restoreBackup(ctx, { id: report.id, targetUrl: await newDatabase() })
  })

  test.each([
    ['drop table app.other', 'dropped'],
    ['alter table app.other alter column id type int8', 'rewritten'],
    ['truncate app.other', 'truncated'],
  ])('has a table changed by others meanwhile: %s waits, and the backup has it as it was', async (change) => {
    const ctx = inFolder()
    const before = await contentsOf(source)
    const other = openDatabase({ sessionUrl: source.sessionUrl, maxConnections: 1 })
    let done = false
    let changing: Promise<unknown> | undefined
    const holding = contextOf(
      waiting(`file://${folder}`, async () => {
        changing ??= other.execute(change).then(() => {
          done = true
        })
        await waitFor(
          async () =>
            (await source.query(`select from pg_stat_activity where wait_event_type = 'Lock' and query = $1`, [change])).length === 1,
        )
        expect(done).toBe(false)
      }),
    )
    const report = await backupDatabase(holding)
    await changing
    await other.close()
    const url = await newDatabase()
    await restoreBackup(ctx, { id: report.id, targetUrl: url })
    const target = openDatabase({ sessionUrl: url, maxConnections: 2 })
    expect(await contentsOf(target)).toEqual(before)
    await target.close()
    await source.execute(
      `drop table if exists app.other; create table app.other (id int, note text); insert into app.other select n, 'other' from generate_series(1, 500) n`,
    )
  })

  test('has a table that somebody else holds: it is named', async () => {
    const other = openDatabase({ sessionUrl: source.sessionUrl, maxConnections: 1 })
    const ctx = inFolder()
    try {
      await other.session(async (session) => {
        await session.execute('begin')
        await session.execute('lock table app.other in access exclusive mode')
        const failure = await failureOf(backupDatabase(ctx, { lockTimeoutMs: 500 }))
        expect(failure.code).toBe('backup_incomplete')
        expect(failure.detail).toMatch(/app\.other.*Try again/)
        await session.execute('rollback')
      })
    } finally {
      await other.close()
    }
    await expectRecovered(ctx)
  })
})

describe('a restore', () => {
  test.each(mayMount ? (['restart', 'full'] as const) : (['restart'] as const))('meets a target that is %s', async (what) => {
    const ctx = inFolder()
    const report = await backupDatabase(ctx)
    const url = await newDatabase()
    const name = new URL(url).pathname.slice(1)
    let happened: Promise<unknown> = Promise.resolve()
    let space: string | undefined
    if (what === 'full') space = await smallTablespace(name)
    try {
      const progress = onceAfter(mib, () => {
        if (what === 'restart') happened = restart()
      })
      const failure = await failureOf(restoreBackup(ctx, { id: report.id, targetUrl: url, ...progress }))
      await happened
      // Several sessions are at work: it is told of what one of them did when it heard of it first.
      expect(failure.detail).toMatch(
        what === 'full'
          ? /^Table app\.notes could not be loaded; it failed after \d{5,} of \d+ bytes: .*No space left on device/i
          : /^(Table app\.\w+ could not be loaded; it failed after \d+ of \d+ bytes|The statistics of table app\.\w+ could not be gathered|Table app\.\w+ .*be (?:read back|indexed)): .*(terminat|closed|connection).* of 3 tables are in \(\d+ bytes\).*--clean/i,
      )
      expect(failure.code).toBe(what === 'full' ? 'database_error' : 'database_unavailable')
      // What is there is no whole database, and says so to the next one who comes.
      expect(await failureOf(restoreBackup(ctx, { id: report.id, targetUrl: url }))).toMatchObject({ code: 'restore_target_not_empty' })
      if (space !== undefined) execFileSync('mount', ['-o', 'remount,size=300m', space])
      await restoreBackup(ctx, { id: report.id, targetUrl: url, clean: name })
      const target = openDatabase({ sessionUrl: url, maxConnections: 2 })
      expect(await contentsOf(target)).toEqual(await contentsOf(source))
      await target.close()
    } finally {
      if (space !== undefined) {
        await dropTablespace(name)
        execFileSync('umount', [space])
      }
    }
  })

  test('loses its connection at work that is no table being loaded: that is named', async () => {
    await source.execute(`create function app.ends(id int) returns int language plpgsql immutable as $$ begin
        if current_query() like 'analyze%' then perform pg_terminate_backend(pg_backend_pid()); end if; return id; end $$;
      create index on app.other (app.ends(id))`)
    try {
      const ctx = inFolder()
      const { id } = await backupDatabase(ctx)
      const failure = await failureOf(restoreBackup(ctx, { id, targetUrl: await newDatabase() }))
      expect(failure.code).toBe('database_unavailable')
      expect(failure.detail).toMatch(
        /^The statistics of table app\.other could not be gathered: .*(terminat|closed).* of 3 tables are in \(\d+ bytes\).*--resume/i,
      )
    } finally {
      await source.execute('drop function app.ends(int) cascade')
    }
  })

  test('loses its connections while a slow store has not given the rows yet', async () => {
    const { id } = await backupDatabase(inFolder())
    const url = await newDatabase()
    const name = new URL(url).pathname.slice(1)
    const ctx = contextOf(async () => {
      const store = await openObjectStore(`file://${folder}`, readEnv({}))
      let reads = 0
      return {
        ...store,
        async get(key, options) {
          // The first reading of all is the check of what is stored.
          if (key.includes('/data/') && ++reads > 3) {
            await source.query('select pg_terminate_backend(pid) from pg_stat_activity where datname = $1', [name])
            await waitFor(async () => (await source.query('select from pg_stat_activity where datname = $1', [name])).length === 0)
          }
          return store.get(key, options)
        },
      }
    })
    const failure = await failureOf(restoreBackup(ctx, { id, targetUrl: url }))
    expect(failure.detail).toMatch(/^Table app\.\w+ could not be loaded; it failed after \d+ of /)
    await restoreBackup(inFolder(), { id, targetUrl: url, clean: name })
  })
})

async function restart(): Promise<void> {
  const { port } = server
  await server.stop()
  server = await startAgain({ directory: join(home, 'server'), settings, port })
}

/** Puts the database `name` on a file system of 24 MB. */
async function smallTablespace(name: string): Promise<string> {
  const path = await mkdtemp(join('/var/tmp', 'caretaker-full-'))
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=24m', 'tmpfs', path])
  execFileSync('chown', ['postgres', path])
  const admin = openDatabase({ sessionUrl: server.url(), maxConnections: 1 })
  await admin.execute(`create tablespace small location '${path}'`)
  await admin.execute(`alter database ${name} set tablespace small`)
  await admin.close()
  return path
}

async function dropTablespace(name: string): Promise<void> {
  const admin = openDatabase({ sessionUrl: server.url(), maxConnections: 1 })
  await admin.execute(`drop database ${name} with (force)`)
  await admin.execute('drop tablespace small')
  await admin.close()
}

/** For as long as the test may take. */
async function waitFor(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await delay(25)
}
