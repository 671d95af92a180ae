import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { createTestDatabase, type TestDatabase, useTestDatabase } from '../support/database.ts'
import { caretaker } from './caretaker.ts'

const source = useTestDatabase({ template: 'template0' })
let target: TestDatabase
let cwd: string

beforeAll(async () => {
  cwd = await mkdtemp(join(tmpdir(), 'caretaker-cli-trust-'))
  target = await createTestDatabase({ template: 'template0' })
  await source.db.execute('create table users (id int primary key); insert into users values (1), (2)')
})
afterAll(async () => {
  await target.drop()
  await rm(cwd, { recursive: true, force: true })
})

it('a laptop that has the identity file and the store restores; with a bare identity it is told what to say', async () => {
  const store = ['--store', `file://${join(cwd, 'store')}`]
  // The data folder holds the key that signs: the other one is another machine.
  const server = ['--database-url', source.url, '--data', join(cwd, 'server'), ...store]
  const laptop = ['--database-url', target.url, '--data', join(cwd, 'laptop'), ...store]

  const file = join(cwd, 'identity.txt')
  const made = await caretaker(['backup', 'keygen', '--out', file, '--json', ...server], { cwd })
  const { recipient, signers } = JSON.parse(made.stdout) as { recipient: string; signers: string[] }
  const text = await readFile(file, 'utf8')
  expect(text).toContain(`# public key: ${recipient}\n# signer: ${signers[0]}\nAGE-SECRET-KEY-1`)
  expect((await stat(file)).mode & 0o777).toBe(0o600)
  expect((await caretaker(['backup', 'keygen', '--out', file, ...server], { cwd })).code).toBe(1)
  expect(await readFile(file, 'utf8')).toBe(text)

  const run = await caretaker(['backup', 'run', '--json', '--recipient', recipient, ...server], { cwd })
  // The configuration goes with it.
  expect(JSON.parse(run.stdout)).toMatchObject({ signer: signers[0], config: expect.stringMatching(/^\d{8}T\d{6}Z-/) })
  const listed = await caretaker(['backup', 'list', ...server], { cwd })
  expect(listed.stdout).toMatch(/If the database died now: .* of data lost; how long until it is open again is not known/)
  expect(listed.stdout).toContain(`Signed by ${signers[0]}`)

  const bare = join(cwd, 'bare.txt')
  await writeFile(
    bare,
    text
      .split('\n')
      .filter((line) => line.startsWith('AGE-'))
      .join('\n'),
  )
  const restore = (...more: string[]) => caretaker(['backup', 'restore', 'latest', '--to', target.url, ...laptop, ...more], { cwd })
  const refused = await restore('--identity', bare)
  expect(refused.code).toBe(1)
  expect(refused.stderr).toContain(`--signer ${signers[0]}`)
  expect(await target.db.query(`select from pg_class where relname = 'users'`)).toEqual([])
  const both = await restore('--identity', bare, '--signer', signers[0] ?? '', '--trust-unsigned')
  expect({ code: both.code, stderr: both.stderr }).toMatchObject({ code: 2, stderr: expect.stringContaining('exclude each other') })

  const restored = await restore('--identity', file)
  expect({ code: restored.code, stderr: restored.stderr }).toMatchObject({ code: 0 })
  expect(await target.db.query('select count(*)::int from users')).toEqual([{ count: 2 }])
}, 90_000)
