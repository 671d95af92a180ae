import { execFile, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { generateX25519Identity, identityToRecipient } from 'age-encryption'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { backupDatabase, restoreBackup, restoreFiles, verifyBackup } from '../../../lib/backup/index.ts'
import { keyIdOf } from '../../../lib/gdpr/erase/receipt.ts'
import { erasedPeople } from '../../../lib/gdpr/index.ts'
import { subjectTag } from '../../../lib/platform/log.ts'
import { createProject, encryptionKey, type Project, projectContext, putFile } from './project.ts'

const large = randomBytes(9 * 1024 * 1024)
const ada = '3f0c7d3e-1111-4222-8333-9a1b2c3d4e5f'
const bob = '7a7a7a7a-1111-4222-8333-9a1b2c3d4e5f'

const hasTools = ['age', 'zstd', 'jq'].every((tool) => spawnSync(tool, ['--version']).status === 0)

let identity: string
let source: Project
let folder: string
let id: string
const backup = () => ({ recipients: [recipient], buckets: ['voice-notes', 'avatars'] })
let recipient: string

beforeAll(async () => {
  identity = await generateX25519Identity()
  recipient = await identityToRecipient(identity)
  source = await createProject()
  folder = await mkdtemp(join(tmpdir(), 'caretaker-restore-files-'))
  const { storage } = source.supabase
  await storage.createBucket('voice-notes', { public: false, fileSizeLimit: 20_000_000, allowedMimeTypes: ['audio/*'] })
  await storage.createBucket('avatars', { public: true })
  await putFile(source, 'voice-notes', `${ada}/greeting to all?.wav`, Buffer.from('hello'), {
    contentType: 'audio/wav',
    cacheControl: '60',
    metadata: { language: 'en', name: 'Ünal' },
  })
  await putFile(source, 'voice-notes', `${bob}/long.mp3`, large, { contentType: 'audio/mpeg' })
  await putFile(source, 'voice-notes', 'nobody/empty.wav', Buffer.alloc(0), { contentType: 'audio/wav' })
  await putFile(source, 'avatars', `${ada}.png`, randomBytes(900), {
    contentType: 'image/png',
    headers: { 'cache-control': 'public, immutable' },
  })
  await source.database.db.execute(
    `update storage.objects set owner = $1::uuid, owner_id = $1, created_at = '2024-05-06T07:08:09Z' where name like $2`,
    [ada, `${ada}%`],
  )
  id = (await backupDatabase(projectContext(source, folder, backup()))).id
})
afterAll(async () => {
  await source.drop()
  await rm(folder, { recursive: true, force: true })
})

const rowsSql = `select bucket_id, name, owner::text, owner_id, metadata - 'lastModified' as metadata, user_metadata, created_at
  from storage.objects order by bucket_id, name`
const bucketsSql = `select id, public, file_size_limit::int, allowed_mime_types from storage.buckets order by id`

async function content(project: Project, bucket: string, name: string): Promise<Buffer> {
  const { data, error } = await project.supabase.storage.from(bucket).download(name.split('/').map(encodeURIComponent).join('/'))
  expect(error).toBeNull()
  return Buffer.from((await data?.arrayBuffer()) ?? new ArrayBuffer(0))
}

async function withProject(work: (project: Project) => Promise<void>): Promise<void> {
  const project = await createProject()
  try {
    await work(project)
  } finally {
    await project.drop()
  }
}

describe('the files of a backup', () => {
  it('come back with content, type, cache control, metadata, owner and bucket settings, and the second run finds them', () =>
    withProject(async (target) => {
      const ctx = projectContext(target, folder, backup())
      const report = await restoreFiles(ctx, { id, identity, targetUrl: target.database.url })
      expect(report).toMatchObject({ files: 4, restored: 4, present: 0, different: 0, erased: 0, missing: 0, owners: 2 })
      expect(report.buckets.map(({ bucket, made }) => [bucket, made])).toEqual([
        ['avatars', true],
        ['voice-notes', true],
      ])
      expect(await target.database.db.query(bucketsSql)).toEqual(await source.database.db.query(bucketsSql))
      expect(await target.database.db.query(rowsSql)).toEqual(
        (await source.database.db.query(rowsSql)).map((row) => ({ ...row, created_at: expect.any(Date) })),
      )
      expect((await content(target, 'voice-notes', `${bob}/long.mp3`)).equals(large)).toBe(true)
      expect((await content(target, 'voice-notes', `${ada}/greeting to all?.wav`)).toString()).toBe('hello')
      const again = await restoreFiles(ctx, { id, identity })
      expect(again).toMatchObject({ files: 4, restored: 0, present: 4, owners: null })
    }))

  it('come back behind the rows of a restored database, which say that they are there already', () =>
    withProject(async (target) => {
      const ctx = projectContext(target, folder, backup())
      await restoreBackup(ctx, { id, identity, targetUrl: target.database.url })
      expect(await target.database.db.query(`select count(*)::int from storage.objects`)).toEqual([{ count: 4 }])
      expect(await restoreFiles(ctx, { id, identity, targetUrl: target.database.url })).toMatchObject({ restored: 4, present: 0 })
      expect(await target.database.db.query(rowsSql)).toEqual(await source.database.db.query(rowsSql))
      expect(await target.database.db.query('select id from storage.objects order by id')).toEqual(
        await source.database.db.query('select id from storage.objects order by id'),
      )
    }))

  it('do not replace newer ones unless that is asked for', () =>
    withProject(async (target) => {
      const ctx = projectContext(target, folder, backup())
      await target.supabase.storage.createBucket('avatars', { public: false })
      await putFile(target, 'avatars', `${ada}.png`, Buffer.from('newer'), { contentType: 'image/png' })
      expect(await restoreFiles(ctx, { id, identity, buckets: ['avatars'] })).toMatchObject({ files: 1, restored: 0, different: 1 })
      expect((await content(target, 'avatars', `${ada}.png`)).toString()).toBe('newer')
      expect(await restoreFiles(ctx, { id, identity, buckets: ['avatars'], overwrite: true })).toMatchObject({ restored: 1, different: 0 })
      expect(await content(target, 'avatars', `${ada}.png`)).toHaveLength(900)
      // The bucket that was there keeps its settings.
      expect((await target.supabase.storage.getBucket('avatars')).data?.public).toBe(false)
    }))

  it('stay away when their person has been erased since, and so does what the database lists of them', () =>
    withProject(async (target) => {
      const ctx = projectContext(target, folder, backup())
      await restoreBackup(ctx, { id, identity, targetUrl: target.database.url })
      const isErased = (candidate: string) => subjectTag(encryptionKey, candidate) === subjectTag(encryptionKey, ada)
      expect(await restoreFiles(ctx, { id, identity, isErased })).toMatchObject({ files: 4, restored: 2, erased: 2 })
      expect(await target.database.db.query(`select name from storage.objects where name like '%' || $1 || '%'`, [ada])).toEqual([])
    }))

  it('are not sent when what is stored is not what was backed up', async () => {
    await withProject(async (target) => {
      const ctx = projectContext(target, folder, backup())
      const references = (await readFile(join(folder, 'backups', id, 'file-references.ndjson'), 'utf8')).trim().split('\n').slice(1)
      const objects = references.map((line) => (JSON.parse(line) as { object: string }).object)
      const [one = '', other = ''] = await sortBySize(objects)
      const kept = await readFile(join(folder, one))
      // Two genuine objects, swapped: each opens, and is another file.
      await writeFile(join(folder, one), await readFile(join(folder, other)))
      try {
        await expect(restoreFiles(ctx, { id, identity })).rejects.toMatchObject({ code: 'backup_corrupt' })
        await expect(verifyBackup(ctx, { id })).rejects.toMatchObject({ code: 'backup_corrupt' })
        await rm(join(folder, one))
        await expect(verifyBackup(ctx, { id })).rejects.toMatchObject({ code: 'backup_corrupt' })
      } finally {
        await writeFile(join(folder, one), kept)
      }
      expect(await target.database.db.query('select name from storage.objects where bucket_id = $1', ['voice-notes'])).not.toContainEqual({
        name: `${bob}/long.mp3`,
      })
      expect(await verifyBackup(ctx, { id, identity })).toMatchObject({ checked: 'content', files: { files: 4, objects: 4 } })
      expect(await verifyBackup(ctx, { id })).toMatchObject({ checked: 'stored', files: { files: 4, objects: 4 } })
    })
  })

  it.skipIf(!hasTools)('come out by hand, with the commands of RESTORE.md', async () => {
    const here = join(folder, 'backups', id)
    const notes = await readFile(join(here, 'RESTORE.md'), 'utf8')
    const [, commands = ''] = /(?<=## Files of Storage buckets)[\s\S]*?\n\n((?: {4}.*\n)+)/.exec(notes) ?? []
    expect(commands).toContain('open()')
    await writeFile(join(folder, 'identity.txt'), `${identity}\n`, { mode: 0o600 })
    const script = commands.replaceAll('IDENTITY_FILE', join(folder, 'identity.txt'))
    await promisify(execFile)('sh', ['-euc', script], { cwd: here })
    expect(await readFile(join(here, 'out', 'voice-notes', ada, 'greeting to all?.wav'), 'utf8')).toBe('hello')
    expect((await readFile(join(here, 'out', 'voice-notes', bob, 'long.mp3'))).equals(large)).toBe(true)
    await rm(join(here, 'out'), { recursive: true })
  })

  it('need the identity, and Storage that takes them', () =>
    withProject(async (target) => {
      const ctx = projectContext(target, folder, backup())
      await expect(restoreFiles(ctx, { id })).rejects.toMatchObject({ code: 'backup_identity' })
      await expect(restoreFiles(ctx, { id, identity: await generateX25519Identity() })).rejects.toMatchObject({ code: 'backup_identity' })
      await expect(restoreFiles(ctx, { id, identity, buckets: ['voice'] })).rejects.toMatchObject({ code: 'invalid_input' })
      await target.supabase.storage.createBucket('voice-notes', { public: false, allowedMimeTypes: ['audio/wav'] })
      const refused = await restoreFiles(ctx, { id, identity }).catch((error: unknown) => error as Error)
      expect(refused).toMatchObject({ code: 'restore_mismatch' })
      expect(String((refused as Error).message)).toMatch(/bucket "voice-notes": 1 files \(Storage did not take it: HTTP 415/)
      expect(String((refused as Error).message)).not.toContain(bob)
      // The others are there.
      expect(await target.database.db.query('select count(*)::int from storage.objects')).toEqual([{ count: 3 }])
    }))
})

describe('erasedPeople', () => {
  it('reads the journal of erasures in the store', async () => {
    const ctx = projectContext(source, folder, backup())
    expect((await erasedPeople(ctx))(ada)).toBe(false)
    const store = await ctx.objects()
    const tombstone = (encryptedWith: string) =>
      store.put(
        'gdpr/tombstones/2026-11-20/one.json',
        Buffer.from(
          JSON.stringify({
            subject: subjectTag(encryptionKey, ada),
            keyId: keyIdOf(Buffer.from(encryptedWith, 'hex')),
            table: 'auth.users',
          }),
        ),
      )
    await tombstone(encryptionKey)
    const erased = await erasedPeople(ctx)
    expect([erased(ada), erased(bob)]).toEqual([true, false])
    await tombstone('a5'.repeat(32))
    await expect(erasedPeople(ctx)).rejects.toMatchObject({ code: 'not_configured' })
    await store.delete('gdpr/tombstones/2026-11-20/one.json')
  })
})

/** Largest last, so that the swap puts a whole other file in place of the small one. */
async function sortBySize(objects: readonly string[]): Promise<string[]> {
  const sized = await Promise.all(objects.map(async (object) => ({ object, bytes: (await readFile(join(folder, object))).byteLength })))
  return sized.sort((a, b) => b.bytes - a.bytes).map(({ object }) => object)
}
