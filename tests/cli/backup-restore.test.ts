import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest'
import { createTestDatabase, type TestDatabase, useTestDatabase } from '../support/database.ts'
import { caretaker, type Ended, start } from './caretaker.ts'

const source = useTestDatabase({ template: 'template0' })
let cwd: string
let id: string
let target: TestDatabase
let common: string[]

beforeAll(async () => {
  cwd = await mkdtemp(join(tmpdir(), 'caretaker-restore-'))
  const from = fileURLToPath(new URL('../../lib/config/index.ts', import.meta.url))
  await writeFile(
    join(cwd, 'policy.ts'),
    `import { defineConfig } from '${from}'
export default defineConfig({
  app: { name: 'Shop' },
  gdpr: { subject: { table: 'people' } },
  backup: { encryption: 'none', restoreOrder: { authentication: ['people'], analytics: ['events', 'nothing'] } },
})`,
  )
  common = ['--config', 'policy.ts', '--data', join(cwd, 'data'), '--store', `file://${join(cwd, 'store')}`]
  // A row of events is checked only while nobody holds a lock: so that a test can be in the middle of a restore.
  await source.db.execute(`create function passes() returns bool language sql as 'select pg_catalog.pg_advisory_xact_lock_shared(42) is not null';
    create table people (id int primary key, email text not null); insert into people select n, n || '@example.org' from generate_series(1, 30) n;
    create table events (id int primary key, person int references people on delete cascade, check (passes())); insert into events select n, n from generate_series(1, 30) n`)
  const run = await caretaker(['backup', 'run', '--json', '--database-url', source.url, ...common], { cwd })
  id = (JSON.parse(run.stdout) as { id: string }).id
})
afterAll(() => rm(cwd, { recursive: true, force: true }))
beforeEach(async () => {
  target = await createTestDatabase({ template: 'template0' })
})
afterEach(() => target.drop())

/** The target with a password in its URL, which trust does not ask for. */
function secretUrl(): string {
  const url = new URL(target.url)
  url.password = 'tOp-sEcReT'
  return url.href
}

const restoring = (...more: string[]) => ['backup', 'restore', id, '--to', secretUrl(), '--database-url', source.url, ...common, ...more]
const restore = (...more: string[]): Promise<Ended> => caretaker(restoring(...more), { cwd })

it('says what is open, and leaves a report without rows and without the password', async () => {
  const ended = await restore()
  expect(ended).toMatchObject({ code: 0 })
  expect(ended.stdout).toMatch(/^open: authentication \(after .*\)$/m)
  expect(ended.stdout).toMatch(/^open: authentication, analytics \(after .*\)$/m)
  expect(ended.stdout).toContain(`  note: backup.restoreOrder names nothing, which this backup does not have.`)
  expect(ended.stdout).toContain(`The report is in restore-${id}.md.`)
  const report = await readFile(join(cwd, `restore-${id}.md`), 'utf8')
  expect(report).toContain(`Restored into the database "${target.name}" on 127.0.0.1:${new URL(target.url).port} by `)
  expect(report).toMatch(
    /^2 of 2 tables are equal to what was dumped, by SHA-256; each sequence stands where it stood. Every row was read back.$/m,
  )
  expect(report).toMatch(/^- authentication, open after .*: public\.people$/m)
  expect(report).toContain('Nobody has been erased since.')
  expect(report).toContain('passwords of roles')
  for (const text of [report, ended.stdout, ended.stderr]) expect(text).not.toMatch(/tOp-sEcReT|@example\.org/)
  // The next one has a name of its own.
  await restore('--clean', target.name)
  expect((await readdir(cwd)).filter((name) => name.startsWith('restore-'))).toHaveLength(2)
})

it('opens nothing before everybody is gone who has been erased since', async () => {
  expect(await caretaker(['gdpr', 'erase', '7', '--yes', '--json', '--database-url', source.url, ...common], { cwd })).toMatchObject({
    code: 0,
  })
  const ended = await restore('--json', '--report', 'report.json')
  expect(ended.code).toBe(0)
  expect(ended.stderr).not.toContain('open:')
  const result = JSON.parse(ended.stdout) as Record<string, unknown>
  expect(result).toMatchObject({
    notEarly: '1 person in it has been erased since the backup',
    replayedErasures: { tombstones: 1, erased: 1 },
    reportFile: 'report.json',
    groups: [
      { name: 'authentication', openAfterMs: null },
      { name: 'analytics', openAfterMs: null },
    ],
  })
  const { reportFile: _, ...written } = result
  expect(JSON.parse(await readFile(join(cwd, 'report.json'), 'utf8'))).toEqual(written)
  expect(await target.db.query('select count(*)::int, min(person) as person from events where person = 7')).toEqual([
    { count: 0, person: null },
  ])
  // What is there is not written over, and this shows before anything is restored.
  const refused = await restore('--clean', target.name, '--report', 'report.json')
  expect(refused).toMatchObject({ code: 1, stderr: expect.stringMatching(/report\.json: it is there already/) })
  expect(await target.db.query('select count(*)::int from people')).toEqual([{ count: 29 }])
})

it('is interrupted with a sentence, and goes on with --resume', async () => {
  await target.db.session(async (holder) => {
    await holder.execute('select pg_advisory_lock(42)')
    const running = start(restoring('--report', 'interrupted.md'), { cwd })
    const stuck = `select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and wait_event = 'advisory' and query ilike 'copy%'`
    while ((await holder.query(stuck)).length === 0) await delay(20)
    while ((await holder.query(`select from caretaker_restore.done where step = 'rows:public.people'`)).length === 0) await delay(20)
    running.kill('SIGINT')
    const ended = await running.ended
    expect(ended).toMatchObject({ code: 1 })
    expect(ended.stderr).toMatch(
      /^caretaker: Stopped by the operator\. The target is not whole: 1 of 2 tables are in \(\d+ bytes\)\. Go on with --resume/m,
    )
    expect(await readdir(cwd)).not.toContain('interrupted.md')
  })
  const ended = await restore('--resume', '--json', '--report', 'resumed.md')
  expect(JSON.parse(ended.stdout)).toMatchObject({ runs: 2, rows: 60 })
  expect(await readFile(join(cwd, 'resumed.md'), 'utf8')).toContain('in 2 runs: it was broken off and resumed')
})

it.each([[['--to', 'mysql://x@y/z'], '--to: expected postgres://']])('%j is refused', async (more, message) => {
  expect(await restore(...more)).toMatchObject({ code: 2, stderr: expect.stringContaining(message) })
})
