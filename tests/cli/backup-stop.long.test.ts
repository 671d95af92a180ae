import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { useTestDatabase } from '../support/database.ts'
import { startS3Server } from '../support/s3-server.ts'
import { start } from './caretaker.ts'

/*
 * Ctrl-C in every phase of `backup run`. Nobody lets go of the locks, and no store answers, before the command has ended:
 * it does not wait for either.
 */

const source = useTestDatabase({ template: 'template0' })
const program = 'stopped backup'
let cwd: string
const begun: ReturnType<typeof start>[] = []

beforeAll(async () => {
  cwd = await mkdtemp(join(tmpdir(), 'caretaker-stop-'))
  await writeFile(join(cwd, 'policy.js'), `export default { app: { name: 'Stop' }, backup: { encryption: 'none' } }`)
  await source.db.execute(`create table plain (id int);
    create table parent (id int) partition by range (id); create table leaf partition of parent for values from (0) to (10);
    create table notes as select n, (select string_agg(gen_random_uuid()::text, '') from generate_series(1, 40) where n > 0) from generate_series(1, 14000) n`)
})
afterAll(async () => {
  for (const backup of begun) backup.kill('SIGKILL')
  await rm(cwd, { recursive: true, force: true })
})

/** Those of the command. */
const sessions = (where: string) =>
  source.db.query(`select query from pg_stat_activity where application_name = '${program}' and datname = current_database() and ${where}`)

async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await delay(20)
}

function run(store: string, env: Record<string, string> = {}) {
  const args = [
    'backup',
    'run',
    '--database-url',
    `${source.url}?application_name=${encodeURIComponent(program)}`,
    '--config',
    join(cwd, 'policy.js'),
    '--store',
    store,
  ]
  const backup = start(args, { cwd, env })
  begun.push(backup)
  return backup
}

/** It has said why, its sessions are gone, and nothing in the folder looks whole. */
async function expectStopped(backup: ReturnType<typeof run>, said: RegExp): Promise<void> {
  const { code, stdout, stderr } = await backup.ended
  expect(stderr).toMatch(said)
  expect(stderr).toMatch(/Nothing of it is kept; run it again\. \(backup_incomplete\)\n$/)
  expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
  await until(async () => (await sessions('true')).length === 0)
  const left = await readdir(join(cwd, 'store'), { recursive: true }).catch(() => [])
  expect(left.filter((name) => !name.startsWith('~incomplete'))).toEqual([])
}

test.each([
  ['for the lock of a table', 'plain', /pg_table_size/, 'while the tables were locked'],
  ['for the lock of a table without rows', 'parent', /^lock table only /, 'while the tables were locked'],
  // Nobody else looks into this one.
  ['for what pg_dump reads', 'pg_catalog.pg_policy', /pg_policy/, 'while \\S+ was read|while the schema was read|before the manifest was'],
])('while it waits %s', async (_, table, waiting, where) => {
  await source.db.session(async (other) => {
    await other.execute('begin')
    await other.execute(`lock table only ${table} in access exclusive mode`)
    const backup = run(`file://${cwd}/store`)
    await until(async () => (await sessions(`wait_event_type = 'Lock'`)).some((session) => waiting.test(String(session.query))))
    backup.kill('SIGINT')
    await expectStopped(backup, new RegExp(`The backup was stopped (${where})`))
    await other.execute('rollback')
  })
})

test('while rows wait for a store that does not answer', async () => {
  const s3 = await startS3Server()
  try {
    s3.fail(...Array.from({ length: 8 }, () => ({ on: 'UploadPart', break: 'hang' }) as const))
    const backup = run(`s3://${s3.bucket}/db`, {
      S3_ENDPOINT: s3.endpoint,
      S3_REGION: s3.region,
      S3_ACCESS_KEY_ID: s3.accessKeyId,
      S3_SECRET_ACCESS_KEY: s3.secretAccessKey,
    })
    await until(async () => s3.log.includes('CreateMultipartUpload'))
    backup.kill('SIGINT')
    await expectStopped(backup, /The backup was stopped while public\.notes was read, after \d{6,} bytes of all tables/)
    expect([...s3.objects.keys()]).toEqual([])
    expect(s3.uploads.size).toBe(0)
  } finally {
    await s3.close()
  }
})

test('a host that asks by SIGTERM is heard as well', async () => {
  await source.db.session(async (other) => {
    await other.execute('begin')
    await other.execute('lock table plain in access exclusive mode')
    const backup = run(`file://${cwd}/store`)
    await until(async () => (await sessions(`wait_event_type = 'Lock'`)).length > 0)
    backup.kill('SIGTERM')
    await expectStopped(backup, /The backup was stopped while the tables were locked/)
    await other.execute('rollback')
  })
})
