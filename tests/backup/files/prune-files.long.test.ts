import { randomBytes } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { prefetchFiles } from '../../../lib/backup/files/index.ts'
import { backupDatabase, pruneBackups, verifyBackup } from '../../../lib/backup/index.ts'
import { fixedClock } from '../../../lib/platform/clock.ts'
import { createProject, type Project, projectContext, putFile } from './project.ts'

let project: Project
let folder: string
beforeAll(async () => {
  project = await createProject()
  await project.supabase.storage.createBucket('voice-notes', { public: false })
})
afterAll(() => project.drop())
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'caretaker-prune-files-'))
  for (const name of ['a', 'b', 'c']) await put(name)
})
afterEach(() => rm(folder, { recursive: true, force: true }))

const put = (name: string) => putFile(project, 'voice-notes', `${name}.wav`, randomBytes(500), { contentType: 'audio/wav' })
const context = (days = 0) => ({
  ...projectContext(project, folder, { encryption: 'none', buckets: ['voice-notes'], keep: { daily: 1 } }),
  ...(days === 0 ? {} : { clock: fixedClock(new Date(Date.now() + days * 86_400_000)) }),
})

async function stored(): Promise<string[]> {
  return (await readdir(join(folder, 'files'), { recursive: true })).filter((entry) => entry.endsWith('.zst')).sort()
}

describe('pruning', () => {
  it('deletes contents that only deleted backups had, when they are old enough to belong to none under way', async () => {
    const first = await backupDatabase(context())
    await put('b')
    const second = await backupDatabase(context())
    expect(await stored()).toHaveLength(4)
    // Both are of today: the older one goes. Its content is young, and stays another day.
    expect(await pruneBackups(context())).toMatchObject({ removed: [first.id], files: { objects: 0 } })
    expect(await stored()).toHaveLength(4)
    expect(await pruneBackups(context(2), { dryRun: true })).toMatchObject({ removed: [], files: { objects: 1 } })
    expect(await stored()).toHaveLength(4)
    expect(await pruneBackups(context(2))).toMatchObject({ files: { objects: 1 } })
    expect(await stored()).toHaveLength(3)
    expect(await verifyBackup(context(), { id: second.id })).toMatchObject({ checked: 'content', files: { files: 3 } })
    expect(await pruneBackups(context(2))).toMatchObject({ files: { objects: 0, bytes: 0 } })
  })

  it('says beforehand what would be deleted with the backups', async () => {
    await backupDatabase(context())
    await put('b')
    await backupDatabase(context())
    expect(await pruneBackups(context(2), { dryRun: true })).toMatchObject({ removed: [expect.any(String)], files: { objects: 1 } })
    expect(await pruneBackups(context(2))).toMatchObject({ files: { objects: 1 } })
  })

  it('leaves what an unfinished run has stored for a day', async () => {
    await backupDatabase(context())
    await put('c')
    await prefetchFiles(context())
    const before = await stored()
    expect(before).toHaveLength(4)
    await pruneBackups(context())
    expect(await stored()).toEqual(before)
    expect(await pruneBackups(context(2))).toMatchObject({ files: { objects: 1 } })
    expect(await readdir(join(folder, 'files'))).not.toContain('journal')
  })

  it('deletes nothing when it cannot be known what a backup has', async () => {
    const { id } = await backupDatabase(context())
    const references = join(folder, 'backups', id, 'file-references.ndjson')
    const sound = await readFile(references)
    await writeFile(references, sound.subarray(0, sound.length - 40))
    expect(await pruneBackups(context(2))).toMatchObject({ files: { objects: 0, undecided: id } })
    await rm(references)
    expect(await pruneBackups(context(2))).toMatchObject({ files: { objects: 0, undecided: id } })
    expect(await stored()).toHaveLength(3)
    await expect(verifyBackup(context(), { id })).rejects.toMatchObject({ code: 'backup_corrupt' })
  })
})
