import { spawn } from 'node:child_process'
import { randomBytes, randomInt } from 'node:crypto'
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { generateX25519Identity, identityToRecipient } from 'age-encryption'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { backupDatabase, listBackups, pruneBackups, restoreFiles, verifyBackup } from '../../../lib/backup/index.ts'
import { fixedClock } from '../../../lib/platform/clock.ts'
import { createProject, encryptionKey, type Project, projectContext, putFile } from './project.ts'

const kills = Number(process.env.KILLS ?? 15)
const files = 40
let source: Project
let folder: string
let identity: string
let recipient: string

const context = (project = source) =>
  projectContext(project, join(folder, 'store'), { recipients: [recipient], buckets: ['voice-notes'], keep: { daily: 1 } })
const put = (n: number) => putFile(source, 'voice-notes', `p/${n}.wav`, randomBytes(20_000), { contentType: 'audio/wav' })

beforeAll(async () => {
  identity = await generateX25519Identity()
  recipient = await identityToRecipient(identity)
  folder = await mkdtemp(join(tmpdir(), 'caretaker-kill-files-'))
  source = await createProject()
  await source.supabase.storage.createBucket('voice-notes', { public: false })
  for (let n = 0; n < files; n++) await put(n)
  const from = (path: string) => JSON.stringify(resolve(path))
  await writeFile(
    join(folder, 'run.ts'),
    `import { backupDatabase, pruneBackups } from ${from('lib/backup/index.ts')}
import { defineConfig } from ${from('lib/config/index.ts')}
import { openObjectStore } from ${from('lib/drivers/objects/index.ts')}
import { systemClock } from ${from('lib/platform/clock.ts')}
import { openDatabase } from ${from('lib/platform/db.ts')}
import { readEnv } from ${from('lib/platform/env.ts')}
import { createLog } from ${from('lib/platform/log.ts')}
import { lazySupabase } from ${from('lib/platform/supabase.ts')}
const env = readEnv({ SUPABASE_URL: '${source.url}', SUPABASE_SERVICE_ROLE_KEY: '${source.key}', ENCRYPTION_KEY: '${encryptionKey}' })
const ctx = {
  config: defineConfig({ app: { name: 'Files' }, backup: { recipients: ['${recipient}'], buckets: ['voice-notes'], keep: { daily: 1 } } }),
  env, db: openDatabase({ sessionUrl: '${source.database.url}' }), objects: () => openObjectStore('file://${folder}/store', env),
  supabase: lazySupabase(env, fetch), log: createLog({ level: 'silent' }), clock: systemClock, fetch,
  signal: new AbortController().signal, deadline: new Date(Date.now() + 36e5), actor: { type: 'system' },
} as never
process.stdout.write('ready')
for (;;) {
  await backupDatabase(ctx)
  await pruneBackups(ctx)
}`,
  )
})
afterAll(async () => {
  await source.drop()
  await rm(folder, { recursive: true, force: true })
})

/** Backs up and prunes without end, until it is killed `ms` after it has begun. */
function killAfter(ms: number): Promise<void> {
  return new Promise((done) => {
    const child = spawn(process.execPath, [join(folder, 'run.ts')], { stdio: ['ignore', 'pipe', 'ignore'] })
    child.stdout.once('data', () => setTimeout(() => child.kill('SIGKILL'), ms))
    child.once('close', () => done())
  })
}

test(`${kills} kills while files change: every backup that shows has all of its files`, { timeout: 1_800_000 }, async () => {
  // One that nobody disturbs: there is something to show from the first kill on, and how long one takes here.
  const begun = performance.now()
  await backupDatabase(context())
  const wholeMs = performance.now() - begun
  let shown = 0
  for (let kill = 0; kill < kills; kill++) {
    for (let n = 0; n < 5; n++) await put(randomInt(files))
    await killAfter(randomInt(50, Math.min(8_000, Math.max(1_500, Math.ceil(1.5 * wholeMs)))))
    for (const backup of await listBackups(context())) {
      shown++
      expect(await verifyBackup(context(), { id: backup.id, identity })).toMatchObject({ checked: 'content', files: { files } })
    }
  }
  expect(shown).toBeGreaterThan(0)

  const last = await backupDatabase(context())
  const target = await createProject()
  try {
    expect(await restoreFiles(context(target), { id: last.id, identity })).toMatchObject({ restored: files })
    const hashes = `select name, metadata ->> 'eTag' as etag from storage.objects order by name`
    expect(await target.database.db.query(hashes)).toEqual(await source.database.db.query(hashes))
  } finally {
    await target.drop()
  }
  // A day later nothing is left of what the kills have left.
  await pruneBackups({ ...context(), clock: fixedClock(new Date(Date.now() + 2 * 86_400_000)) })
  const left = await readdir(join(folder, 'store', 'files'), { recursive: true })
  expect(left.filter((entry) => entry.endsWith('.age'))).toHaveLength(files)
  expect(left.filter((entry) => entry.endsWith('.ndjson'))).toEqual([])
})
