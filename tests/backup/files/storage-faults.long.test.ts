import { randomBytes } from 'node:crypto'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { prefetchFiles } from '../../../lib/backup/files/index.ts'
import { backupDatabase, backupJob, listBackups, planBackup, restoreFiles } from '../../../lib/backup/index.ts'
import { hasCode } from '../../../lib/platform/errors.ts'
import type { JobRun } from '../../../lib/platform/job.ts'
import { logLines, testContext } from '../../support/context.ts'
import { useTestDatabase } from '../../support/database.ts'
import { createProject, type Project, projectContext, putFile } from './project.ts'

const names = ['one', 'two', 'three', 'four', 'five', 'six'].map((word) => `ludwig/${word}.wav`)
const limits = { retryDelayMs: 1, attempts: 3 }
let project: Project
let folder: string

beforeAll(async () => {
  project = await createProject()
  await project.supabase.storage.createBucket('voice-notes', { public: false })
})
afterAll(() => project.drop())
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'caretaker-faults-'))
  for (const name of names) await putFile(project, 'voice-notes', name, randomBytes(2_000), { contentType: 'audio/wav' })
  project.requests.length = 0
})
afterEach(async () => {
  project.intercept = undefined
  await rm(folder, { recursive: true, force: true })
})

const context = (environment?: Record<string, string>) =>
  projectContext(project, folder, { encryption: 'none', buckets: ['voice-notes'] }, environment)
const isDownload = (request: Request, word: string) =>
  request.method === 'GET' && new URL(request.url).pathname === `/storage/v1/object/voice-notes/ludwig/${word}.wav`
const downloads = () => project.requests.filter((request) => /^GET \/storage\/v1\/object\/voice-notes/.test(request)).length
const refusal = (status: number, code: string) =>
  Response.json({ statusCode: String(status), code, error: code, message: 'no' }, { status: 400 })

async function storedObjects(): Promise<number> {
  const entries = await readdir(join(folder, 'files'), { recursive: true })
  return entries.filter((entry) => entry.endsWith('.zst')).length
}

describe('files that Storage does not give', () => {
  it('fail the backup with the bucket and their number, never a name; the next run goes on from there', async () => {
    project.intercept = (request) => (isDownload(request, 'two') || isDownload(request, 'five') ? refusal(500, 'InternalError') : undefined)
    const ctx = context()
    const failed = await prefetchFiles(ctx, { limits }).catch((error: unknown) => error)
    expect(hasCode(failed, 'backup_incomplete')).toBe(true)
    expect((failed as Error).message).toContain('bucket "voice-notes": 2 of 6 files (HTTP 500 InternalError)')
    expect(`${(failed as Error).message}${logLines(ctx).join()}`).not.toMatch(/ludwig|two\.wav/)
    // Each of the two was asked for three times.
    expect(downloads()).toBe(4 + 2 * 3)
    project.intercept = undefined
    project.requests.length = 0
    expect((await backupDatabase(context())).files).toMatchObject({ count: 6, newCount: 6 })
    expect(downloads()).toBe(2)
  })

  it('fail the backup at once when the key is refused, and nothing shows', async () => {
    project.intercept = (request) => (isDownload(request, 'one') ? refusal(403, 'AccessDenied') : undefined)
    const ctx = context()
    await expect(backupDatabase(ctx)).rejects.toMatchObject({
      code: 'backup_incomplete',
      detail: expect.stringContaining('1 of 6 files (HTTP 403 AccessDenied; check SUPABASE_SERVICE_ROLE_KEY)'),
    })
    expect(await listBackups(ctx)).toEqual([])
  })

  it('because they vanished are counted, and the backup is complete', async () => {
    project.intercept = (request) => (isDownload(request, 'three') ? refusal(404, 'NoSuchKey') : undefined)
    const report = await backupDatabase(context())
    expect(report.files).toMatchObject({ count: 5, missing: 1 })
    expect(report.leftOut).toContainEqual({ what: '1 files in Storage buckets', why: expect.stringContaining('had no content') })
  })

  it('all of them, are of another project', async () => {
    const more = Array.from({ length: 6 }, (_, n) => `clara/${n}.wav`)
    for (const name of more) await putFile(project, 'voice-notes', name, Buffer.from(name), { contentType: 'audio/wav' })
    project.intercept = (request) => (request.method === 'GET' ? refusal(404, 'NoSuchKey') : undefined)
    await expect(prefetchFiles(context())).rejects.toMatchObject({
      code: 'backup_incomplete',
      detail: expect.stringContaining('none of the 12 files'),
    })
    await project.supabase.storage.from('voice-notes').remove(more)
  })
})

describe('a download', () => {
  it('that breaks off is made again', async () => {
    let broken = 0
    project.intercept = (request) => {
      if (!isDownload(request, 'four') || broken === 2) return undefined
      broken++
      return new Response(randomBytes(100), { headers: { 'content-type': 'audio/wav' } })
    }
    expect(await prefetchFiles(context(), { limits })).toBe(true)
    expect(broken).toBe(2)
    expect(await storedObjects()).toBe(6)
  })

  it('of which nothing comes ends, and is made again', async () => {
    // Long for a download that comes, on a busy machine too.
    const stallMs = 3_000
    let stalled = 0
    project.intercept = (request) => {
      if (!isDownload(request, 'four') || stalled === 1) return undefined
      stalled++
      return new Response(new ReadableStream({ start: (controller) => controller.enqueue(randomBytes(10)) }))
    }
    expect(await prefetchFiles(context(), { limits: { ...limits, stallMs } })).toBe(true)
    expect(stalled).toBe(1)
    expect(await storedObjects()).toBe(6)
  })

  it('of a file overwritten since the snapshot brings the newer content, and is not taken for the older', async () => {
    let overwritten = false
    project.intercept = async (request) => {
      if (!isDownload(request, 'six') || overwritten) return undefined
      overwritten = true
      await putFile(project, 'voice-notes', 'ludwig/six.wav', Buffer.from('newer content'), { contentType: 'audio/wav' })
      return undefined
    }
    // Without the key nothing is fetched before the snapshot.
    const report = await backupDatabase(context({}))
    expect(overwritten).toBe(true)
    expect(report.files).toMatchObject({ count: 6, changed: 1 })
    expect(report.leftOut.map((left) => left.what)).toContain('the older content of 1 files')
    await project.supabase.storage.from('voice-notes').remove(['ludwig/six.wav'])
    expect(await restoreFiles(context(), { id: report.id, trustUnsigned: true })).toMatchObject({ restored: 1, present: 5 })
    const { data } = await project.supabase.storage.from('voice-notes').download('ludwig/six.wav')
    expect(await data?.text()).toBe('newer content')
  })
})

describe('a run that is stopped', () => {
  it('is gone on with by the next', async () => {
    let asked = 0
    expect(await prefetchFiles(context(), { limits: { atOnce: 1 }, shouldStop: () => asked++ === 3 })).toBe(false)
    expect(downloads()).toBe(3)
    expect(await prefetchFiles(context())).toBe(true)
    expect(downloads()).toBe(6)
    expect(await storedObjects()).toBe(6)
  })
})

describe('the job', () => {
  it('plans what it would fetch, and which buckets it would not have', async () => {
    const lines = async (buckets: string[]) =>
      (await planBackup(projectContext(project, folder, { encryption: 'none', buckets }))).filter((line) =>
        line.action.startsWith('store new'),
      )
    expect(await lines(['voice-notes'])).toMatchObject([{ count: 6, unit: 'objects' }])
    expect(project.requests).toEqual([])
    await prefetchFiles(context())
    expect(await lines(['voice-notes'])).toEqual([
      { action: 'store new and changed files of 6', target: 'buckets voice-notes', count: 0, unit: 'objects' },
    ])
    expect(await lines(['voices'])).toMatchObject([
      { count: 0, warnings: [expect.stringContaining('voice-notes'), expect.stringContaining('no such buckets')] },
    ])
  })

  it('hands over while files are on their way, before there is a snapshot', async () => {
    let asked = 0
    const run: JobRun = {
      id: '00000000-0000-0000-0000-000000000000',
      job: 'backup',
      slot: new Date(),
      attempt: 1,
      params: {},
      checkpoint: null,
      save: () => Promise.resolve(),
      shouldHandOver: () => asked++ >= 4,
      callForHelp: () => Promise.resolve(),
    }
    const ctx = context()
    expect(await backupJob(ctx, run)).toEqual({ status: 'hand-over', progress: true })
    expect(downloads()).toBeGreaterThanOrEqual(1)
    expect(downloads()).toBeLessThanOrEqual(4)
    expect(await readdir(folder)).not.toContain('backups')
  })
})

describe('what is the same is stored once', () => {
  it('two files of one content', async () => {
    await putFile(project, 'voice-notes', 'ludwig/two.wav', Buffer.from('the same'), { contentType: 'audio/wav' })
    await putFile(project, 'voice-notes', 'ludwig/three.wav', Buffer.from('the same'), { contentType: 'audio/wav' })
    const report = await backupDatabase(context())
    expect(report.files).toMatchObject({ count: 6, newCount: 5 })
    expect(await storedObjects()).toBe(5)
  })

  it('but not for other recipients, who could not read it, nor without the key to recognise it', async () => {
    await backupDatabase(context())
    project.requests.length = 0
    const recipients = ['age1ppxerr0mhtvlt4jet0lwwpk4esv8d3e008zknsytnvmqq3fezvzs3qvr2k']
    const other = await backupDatabase(projectContext(project, folder, { recipients, buckets: ['voice-notes'] }))
    expect(downloads()).toBe(6)
    expect(other.files).toMatchObject({ newCount: 6 })
    project.requests.length = 0
    const keyless = await backupDatabase(context({}))
    expect(downloads()).toBe(6)
    expect(keyless.leftOut.map((left) => left.what)).toContain('recognition of files that did not change')
    project.requests.length = 0
    await backupDatabase(context({ ENCRYPTION_KEY: 'a5'.repeat(32) }))
    expect(downloads()).toBe(6)
  })
})

describe('the bucket that the backups are in', () => {
  it('is not backed up', async () => {
    const ctx = context()
    const store = { ...(await ctx.objects()), url: 'supabase://voice-notes/db' }
    await expect(backupDatabase({ ...ctx, objects: () => Promise.resolve(store) })).rejects.toMatchObject({ code: 'policy_invalid' })
  })
})

describe('buckets that cannot be read', () => {
  const plain = useTestDatabase()

  it('are told, and the database is backed up all the same', async () => {
    const supabaseless = { ...context(), supabase: testContext(project.database.db).supabase }
    const without = await backupDatabase(supabaseless)
    expect(without.files).toBeUndefined()
    expect(without.leftOut).toContainEqual({
      what: '6 files of the buckets voice-notes',
      why: expect.stringContaining('SUPABASE_URL and SUPABASE_SERVICE_ROLE_KEY are not set'),
    })
    const misspelt = await backupDatabase(projectContext(project, folder, { encryption: 'none', buckets: ['voice-note'] }))
    expect(misspelt.leftOut).toContainEqual({ what: 'files of the buckets voice-note', why: expect.stringContaining('no such buckets') })
    expect(misspelt.leftOut).toContainEqual({
      what: 'files of the buckets voice-notes',
      why: expect.stringContaining('does not name them'),
    })
    const elsewhere = await backupDatabase({ ...context(), db: plain.db })
    expect(elsewhere.leftOut).toContainEqual({
      what: 'files of the buckets voice-notes',
      why: expect.stringContaining('no schema "storage"'),
    })
    await expect(restoreFiles(context(), { id: elsewhere.id })).rejects.toMatchObject({ code: 'object_missing' })
  })
})
