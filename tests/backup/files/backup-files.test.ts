import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { generateX25519Identity, identityToRecipient } from 'age-encryption'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { backupDatabase } from '../../../lib/backup/index.ts'
import { readManifest } from '../../../lib/backup/manifest.ts'
import type { Context } from '../../../lib/platform/context.ts'
import { createProject, type Project, projectContext, putFile } from './project.ts'

let project: Project
let folder: string
let recipient: string

beforeAll(async () => {
  recipient = await identityToRecipient(await generateX25519Identity())
  project = await createProject()
  await project.supabase.storage.createBucket('voice-notes', { public: false, fileSizeLimit: 5_000_000, allowedMimeTypes: ['audio/*'] })
  await project.supabase.storage.createBucket('avatars', { public: true })
  await put('voice-notes', 'ludwig/greeting to all.wav', 'audio/wav', Buffer.from('hello'), { language: 'en' })
  await put('voice-notes', 'ludwig/puzzled?.wav', 'audio/wav', Buffer.alloc(0))
  await put('voice-notes', 'clara/long.wav', 'audio/mpeg', randomBytes(700_000))
  await put('avatars', 'ludwig.png', 'image/png', randomBytes(900))
})
afterAll(() => project.drop())
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'caretaker-files-store-'))
  project.requests.length = 0
})
afterEach(async () => {
  project.intercept = undefined
  await rm(folder, { recursive: true, force: true })
})

const put = (bucket: string, name: string, contentType: string, bytes: Uint8Array, metadata?: Record<string, unknown>) =>
  putFile(project, bucket, name, bytes, { contentType, cacheControl: '60', ...(metadata === undefined ? {} : { metadata }) })

const downloads = () => project.requests.filter((request) => /^GET \/storage\/v1\/object\/(voice-notes|avatars)/.test(request)).length
const context = (environment?: Record<string, string>) =>
  projectContext(project, folder, { recipients: [recipient], buckets: ['voice-notes', 'avatars'] }, environment)

async function storedFiles(): Promise<string[]> {
  const found = await readdir(join(folder, 'files'), { recursive: true, withFileTypes: true })
  return found.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name))
}

async function manifestOf(ctx: Context, id: string) {
  return (await readManifest(await ctx.objects(), id)).manifest
}

describe('a backup with buckets', () => {
  it('holds every file, says so, and shows no name', async () => {
    const ctx = context()
    const report = await backupDatabase(ctx)
    expect(report.files).toMatchObject({
      buckets: ['avatars', 'voice-notes'],
      count: 4,
      newCount: 4,
      bytes: 700_905,
      missing: 0,
      changed: 0,
    })
    expect(report.leftOut.map((left) => left.what)).not.toContain('files in Storage buckets')
    expect(downloads()).toBe(4)
    expect(await storedFiles()).toHaveLength(4)
    const manifest = await manifestOf(ctx, report.id)
    const index = manifest.objects.find((object) => object.key === manifest.files?.index)
    expect(index).toMatchObject({ kind: 'file-index', key: 'files.ndjson.zst.age' })
    const references = await readFile(join(folder, 'backups', report.id, 'file-references.ndjson'), 'utf8')
    const shown = `${JSON.stringify(manifest)}${references}${(await storedFiles()).join()}`
    expect(/greeting|puzzled|ludwig|clara/.exec(shown)).toBeNull()
    // Nor can a known content be looked for.
    expect(shown).not.toContain(createHash('sha256').update('hello').digest('hex'))
    expect(shown).not.toContain(createHash('md5').update('hello').digest('hex'))
  })

  it('fetches a file again only when Storage has another version of it', async () => {
    const ctx = context()
    const first = await backupDatabase(ctx)
    project.requests.length = 0
    const second = await backupDatabase(context())
    expect(downloads()).toBe(0)
    expect(second.files).toEqual({ ...first.files, newCount: 0, newStoredBytes: 0 })
    await put('avatars', 'ludwig.png', 'image/png', randomBytes(901))
    const third = await backupDatabase(context())
    expect(downloads()).toBe(1)
    expect(third.files).toMatchObject({ count: 4, newCount: 1, bytes: (first.files?.bytes ?? 0) + 1 })
    expect(await storedFiles()).toHaveLength(5)
  })
})
