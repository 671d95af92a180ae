import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { databaseTag } from '../../cli/own-store.ts'
import { createTestDatabase, useTestDatabase } from '../support/database.ts'
import { caretaker, type Ended } from './caretaker.ts'

const bare = useTestDatabase({ template: 'template0' })
const other = useTestDatabase({ template: 'template0' })
const ada = '11111111-1111-4111-8111-111111111111'
let cwd: string
let over: (database: { url: string }) => string[]

beforeAll(async () => {
  cwd = await mkdtemp(join(tmpdir(), 'caretaker-database-'))
  const from = fileURLToPath(new URL('../../lib/config/index.ts', import.meta.url))
  await writeFile(
    join(cwd, 'policy.ts'),
    `import { defineConfig } from '${from}'
export default defineConfig({
  app: { name: 'Shop' },
  gdpr: { subject: { table: 'users', id: 'id', email: 'email' }, tables: { orders: { erase: 'delete' } } },
  backup: { encryption: 'none' },
})`,
  )
  over = ({ url }) => ['--database-url', url, '--config', 'policy.ts', '--data', join(cwd, 'data')]
  for (const { db } of [bare, other])
    await db.execute(`create table users (id uuid primary key, email text unique);
      create table orders (id serial primary key, user_id uuid not null references users);
      insert into users values ('${ada}', 'ada@example.org'), ('22222222-2222-4222-8222-222222222222', 'bob@example.org');
      insert into orders (user_id) select id from users`)
})
afterAll(() => rm(cwd, { recursive: true, force: true }))

function noStack({ stdout, stderr }: Ended): void {
  expect(stdout + stderr).not.toMatch(/\n {4}at /)
}

describe('a database that has never seen Caretaker', () => {
  it.each([
    [['jobs', 'list']],
    [['jobs', 'run', 'health']],
    [['jobs', 'history']],
    [['webhooks', 'list']],
    [['security', 'report']],
    [['security', 'audit']],
    [['keys', 'create', '--role', 'viewer']],
  ])('%s says which command makes its tables', async (args) => {
    const ended = await caretaker([...args, '--json', ...over(bare)], { cwd })
    expect(ended.code).toBe(1)
    expect(JSON.parse(ended.stdout)).toMatchObject({ error: { code: 'not_configured' } })
    expect(ended.stderr).toMatch(/no Caretaker tables yet. Run `caretaker db migrate`/)
    noStack(ended)
  })

  it.each([[['plan']], [['gdpr', 'map']], [['gdpr', 'lint']], [['gdpr', 'requests']], [['db', 'ping']], [['health', 'check']]])(
    '%s works, and prints one document',
    async (args) => {
      const { code, stdout } = await caretaker([...args, '--json', ...over(bare)], { cwd })
      expect(code).toBe(0)
      expect(JSON.parse(stdout)).toBeTypeOf('object')
    },
  )

  it('erases a person once: the second time it says that it is done, by id and by address, and another database is asked anew', async () => {
    const erase = (database: { url: string }, subject: string) =>
      caretaker(['gdpr', 'erase', subject, '--yes', '--json', ...over(database)], { cwd })
    const first = await erase(bare, ada)
    expect(JSON.parse(first.stdout)).toMatchObject({
      status: 'erased',
      receipt: { tombstone: expect.stringMatching(/^gdpr\/tombstones\//) },
    })
    const folder = join(cwd, 'data', 'databases', databaseTag(bare.url))
    expect(first.stderr).toContain(folder)
    expect((await stat(folder)).mode & 0o777).toBe(0o700)
    for (const subject of [ada, 'Ada@example.org']) {
      const again = await erase(bare, subject)
      expect({ code: again.code, stderr: again.stderr }).toEqual({ code: 0, stderr: '' })
      expect(JSON.parse(again.stdout)).toMatchObject({ status: 'already-erased' })
    }
    expect(JSON.parse((await erase(other, ada)).stdout)).toMatchObject({ status: 'erased' })
    expect(await readdir(join(cwd, 'data', 'databases'))).toHaveLength(2)
    expect((await erase(bare, 'nobody@example.org')).code).toBe(1)
  })

  it('is backed up to --store and restored into an empty database', async () => {
    const store = ['--store', `file://${join(cwd, 'store')}`]
    const run = await caretaker(['backup', 'run', '--json', ...store, ...over(bare)], { cwd })
    const { id } = JSON.parse(run.stdout) as { id: string }
    const target = await createTestDatabase({ template: 'template0' })
    try {
      const restore = () => caretaker(['backup', 'restore', id, '--json', '--to', target.url, ...store, ...over(bare)], { cwd })
      expect(JSON.parse((await restore()).stdout)).toMatchObject({ id, rows: 2 })
      expect(await target.db.query('select email from users')).toEqual([{ email: 'bob@example.org' }])
      const onceMore = await restore()
      expect({ code: onceMore.code, error: JSON.parse(onceMore.stdout) }).toMatchObject({
        code: 1,
        error: { error: { code: 'restore_target_not_empty' } },
      })
    } finally {
      await target.drop()
    }
    const file = join(cwd, 'all.sql')
    const written = () => caretaker(['backup', 'export', id, '--out', file, ...store, ...over(bare)], { cwd })
    expect((await written()).code).toBe(0)
    const content = await readFile(file, 'utf8')
    const refused = await written()
    expect(refused.stderr).toMatch(/all\.sql: it is there already/)
    expect({ code: refused.code, content: await readFile(file, 'utf8') }).toEqual({ code: 1, content })
    noStack(refused)
  })

  it('a place that cannot be written is named, and the database is not blamed', async () => {
    const ended = await caretaker(['gdpr', 'export', 'bob@example.org', '--out', join(cwd, 'no', 'u.zip'), ...over(bare)], { cwd })
    expect(ended.stderr).toMatch(/no\/.*the folder or file does not exist \(ENOENT\)/)
    expect(ended.code).toBe(1)
    noStack(ended)
  })
})

describe('a role that may only read', () => {
  const reader = `reader_${process.pid}`
  let url: string
  beforeAll(async () => {
    await other.db.execute(`create role ${reader} login password 'reads-only-secret';
      grant usage on schema public to ${reader}; grant select on all tables in schema public to ${reader}`)
    const made = new URL(other.url)
    made.username = reader
    made.password = 'reads-only-secret'
    url = made.href
  })
  afterAll(() => other.db.execute(`drop owned by ${reader}; drop role ${reader}`))

  it('exports a person', async () => {
    const out = join(cwd, 'bob.zip')
    const { code } = await caretaker(['gdpr', 'export', 'bob@example.org', '--out', out, ...over({ url })], { cwd })
    expect({ code, magic: (await readFile(out)).subarray(0, 2).toString() }).toEqual({ code: 0, magic: 'PK' })
  })

  it.each([[['db', 'migrate']], [['gdpr', 'erase', 'bob@example.org', '--yes']]])(
    'is refused %s in words, with nothing changed',
    async (args) => {
      const ended = await caretaker([...args, '--json', ...over({ url })], { cwd })
      expect(ended.code).toBe(1)
      expect(JSON.parse(ended.stdout)).toMatchObject({ error: { code: 'database_error', detail: expect.stringContaining('42501') } })
      expect(ended.stdout + ended.stderr).not.toContain('reads-only-secret')
      noStack(ended)
      expect(await other.db.query(`select email from users where email = 'bob@example.org'`)).toHaveLength(1)
    },
  )
})
