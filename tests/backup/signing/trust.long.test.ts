import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { generateX25519Identity, identityToRecipient } from 'age-encryption'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  backupDatabase,
  drillBackup,
  exportBackup,
  listBackups,
  makeIdentityFile,
  pinnedSigners,
  pruneBackups,
  restoreBackup,
  verifyBackup,
} from '../../../lib/backup/index.ts'
import { deriveSigner } from '../../../lib/backup/signing/index.ts'
import { defineConfig, type PolicyInput } from '../../../lib/config/index.ts'
import { openObjectStore } from '../../../lib/drivers/objects/index.ts'
import type { Context } from '../../../lib/platform/context.ts'
import { openDatabase } from '../../../lib/platform/db.ts'
import { readEnv } from '../../../lib/platform/env.ts'
import { testContext } from '../../support/context.ts'
import { createTestDatabase, type TestDatabase, useTestDatabase } from '../../support/database.ts'

const source = useTestDatabase({ template: 'template0' })
let target: TestDatabase
let folder: string
let identity: string
let recipient: string

const serverKey = '5a'.repeat(32)
const server = deriveSigner(serverKey).publicKey
const strangerKey = '66'.repeat(32)

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'caretaker-trust-'))
  identity = await generateX25519Identity()
  recipient = await identityToRecipient(identity)
  target = await createTestDatabase({ template: 'template0' })
  // The one table of Caretaker's that matters here.
  await source.db.execute('create schema caretaker')
  await source.db.execute(await readFile('supabase/migrations/20261121010300_backup_signers.sql', 'utf8'))
  await source.db.execute(
    `create table people (id int primary key, name text); insert into people select n, 'person ' || n from generate_series(1, 20) n`,
  )
})
afterAll(async () => {
  await target.drop()
  await rm(folder, { recursive: true, force: true })
})

/** A deployment, or a laptop: what it knows is its environment, its policy and the database it is connected to. */
function context(store: string, more: { env?: Record<string, string>; backup?: PolicyInput['backup']; db?: Context['db'] } = {}): Context {
  const env = readEnv({ ...(more.env ?? { ENCRYPTION_KEY: serverKey }), LOG_LEVEL: 'debug' })
  return testContext(more.db ?? source.db, {
    env,
    config: defineConfig({ app: { name: 'Trust' }, backup: { recipients: [recipient], ...more.backup } }),
    objects: () => openObjectStore(`file://${join(folder, store)}`, env),
  })
}

/** A machine that has never seen the deployment: no key of its own, and a database that is gone. */
function laptop(store: string, backup: PolicyInput['backup'] = {}): Context {
  return context(store, { env: {}, backup, db: openDatabase({ sessionUrl: 'postgres://nobody@127.0.0.1:1/gone' }) })
}

const codeOf = (work: Promise<unknown>) =>
  work.then(
    () => 'done',
    (error: unknown) => (error as { code?: string }).code ?? String(error),
  )

const made = async () => (await target.db.query(`select relname from pg_class where relnamespace = 'public'::regnamespace`)).length > 0

async function emptied<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } finally {
    await target.db.execute('drop schema if exists caretaker cascade; drop schema public cascade; create schema public')
  }
}

describe('a laptop at three in the morning', () => {
  let id: string
  beforeAll(async () => {
    const report = await backupDatabase(context('night'))
    expect(report.signer).toBe(server)
    id = report.id
  })

  test('has the identity file and the store: the file says whom to believe', async () => {
    const file = `# signer: ${server}\n${identity}\n`
    await emptied(async () => {
      expect(await restoreBackup(laptop('night'), { id: 'latest', identity: file, targetUrl: target.url })).toMatchObject({ id })
      expect(await target.db.query('select count(*)::int from people')).toEqual([{ count: 20 }])
    })
    expect(await verifyBackup(laptop('night'), { id, identity: file })).toMatchObject({ signer: server, checked: 'content' })
  })

  test('with a bare identity is refused before the first row, and told what to say', async () => {
    const refusal = restoreBackup(laptop('night'), { id, identity, targetUrl: target.url })
    await expect(refusal).rejects.toMatchObject({ code: 'backup_untrusted', detail: expect.stringContaining(`--signer ${server}`) })
    expect(await made()).toBe(false)
    const to = new Writable({ write: (_chunk, _encoding, done) => done() })
    expect(await codeOf(exportBackup(laptop('night'), { id, identity, to }))).toBe('backup_untrusted')
    expect(await codeOf(verifyBackup(laptop('night'), { id }))).toBe('backup_untrusted')
  })

  test.each([
    ['--signer', { signers: [server] }],
    ['--signer, as a line of authorized_keys', { signers: [`ssh-ed25519 ${server} caretaker`] }],
    ['--trust-unsigned', { trustUnsigned: true }],
  ])('is believed with %s', async (_, say) => {
    expect(await verifyBackup(laptop('night'), { id, identity, ...say })).toMatchObject({ checked: 'content' })
  })

  test('believes the policy, and with --signer nobody else', async () => {
    expect(await codeOf(verifyBackup(laptop('night', { signers: [server] }), { id }))).toBe('done')
    const other = { id, signers: [deriveSigner(strangerKey).publicKey] }
    expect(await codeOf(verifyBackup(laptop('night', { signers: [server] }), other))).toBe('backup_untrusted')
    expect(await codeOf(verifyBackup(context('night'), other))).toBe('backup_untrusted')
    expect(await codeOf(verifyBackup(laptop('night'), { id, signers: ['nonsense'] }))).toBe('invalid_input')
  })

  test('the key is noted in the database, so that a changed ENCRYPTION_KEY costs nothing', async () => {
    expect((await pinnedSigners(source.db)).map((one) => one.publicKey)).toEqual([server])
    const rotated = context('night', { env: { ENCRYPTION_KEY: strangerKey } })
    expect(await codeOf(verifyBackup(rotated, { id }))).toBe('done')
    const { signers, text } = await makeIdentityFile(rotated)
    expect(signers).toEqual([server])
    expect(text).toMatch(/^# signer: AAAAC3\S+\nAGE-SECRET-KEY-1\S+\n$/m)
  })
})

describe('whoever may write to the store', () => {
  /** All an attacker has: the store, the recipients, Caretaker. The database is one of their own. */
  async function forge(store: string, env: Record<string, string>): Promise<string> {
    const evil = await createTestDatabase({ template: 'template0' })
    try {
      await evil.db.execute('create table people (id int primary key, name text)')
      const { id } = await backupDatabase(context(store, { env, db: evil.db }))
      // Under the name and instance of the real one, as far as these are read from the manifest at all.
      return id
    } finally {
      await evil.drop()
    }
  }

  test.each([
    ['without a signature', {}],
    ['with a key of their own', { ENCRYPTION_KEY: strangerKey }],
  ])('cannot add a backup that is taken for a real one: %s', async (_, env) => {
    const store = `forged-${Object.keys(env).length}`
    const real = await backupDatabase(context(store))
    const forged = await forge(store, env)
    const file = `# signer: ${server}\n${identity}\n`
    expect(await codeOf(restoreBackup(context(store), { id: forged, identity: file, targetUrl: target.url }))).toBe('backup_untrusted')
    expect(await codeOf(drillBackup(context(store), { id: forged, identity, scratchUrl: target.url }))).toBe('backup_untrusted')
    expect(await made()).toBe(false)
    const listed = await listBackups(context(store))
    expect(listed.map((backup) => [backup.id, backup.trusted]).sort()).toEqual(
      [
        [real.id, true],
        [forged, false],
      ].sort(),
    )
  })

  test('cannot strip a signature, nor put that of another backup in its place', async () => {
    const [one, two] = [await backupDatabase(context('strip')), await backupDatabase(context('strip'))]
    const signature = (id: string) => join(folder, 'strip/backups', id, 'SHA256SUMS.sig')
    const kept = await readFile(signature(one.id))
    await cp(signature(two.id), signature(one.id))
    expect(await codeOf(verifyBackup(context('strip'), { id: one.id, trustUnsigned: true }))).toBe('backup_corrupt')
    await rm(signature(one.id))
    expect(await codeOf(verifyBackup(context('strip'), { id: one.id, trustUnsigned: true }))).toBe('backup_corrupt')
    await writeFile(signature(one.id), kept)
    expect(await codeOf(verifyBackup(context('strip'), { id: one.id }))).toBe('done')
  })

  test('cannot pass an old backup off as another', async () => {
    const { id } = await backupDatabase(context('rename'))
    const later = id.replace(/^\d{4}/, '2099')
    await cp(join(folder, 'rename/backups', id), join(folder, 'rename/backups', later), { recursive: true })
    expect(await codeOf(verifyBackup(context('rename'), { id: later }))).toBe('backup_corrupt')
  })

  test('cannot have real backups deleted by adding newer ones', async () => {
    const keep = { keep: { daily: 1 } }
    const real = await backupDatabase(context('crowd', { backup: keep }))
    const forged = await backupDatabase(context('crowd', { backup: keep, env: {} }))
    expect(await pruneBackups(context('crowd', { backup: keep }))).toMatchObject({
      kept: [{ id: real.id }],
      removed: [],
      untrusted: [forged.id],
    })
    // In so many words it counts, and is the newer one.
    expect(await pruneBackups(context('crowd', { backup: keep }), { trustUnsigned: true })).toMatchObject({
      kept: [{ id: forged.id }],
      removed: [real.id],
    })
  })

  test('cannot make the newest backup one of theirs: latest is refused, with the newest that is signed', async () => {
    const real = await backupDatabase(context('latest'))
    await backupDatabase(context('latest', { env: {} }))
    const refused = verifyBackup(context('latest'), { id: 'latest' })
    await expect(refused).rejects.toMatchObject({
      code: 'backup_untrusted',
      detail: expect.stringMatching(new RegExp(`not signed.*signed with a known key is ${real.id}`)),
    })
  })

  test('cannot say that a drill has proven something', async () => {
    const { id } = await backupDatabase(context('proven'))
    const store = await context('proven').objects()
    const record = { format: 'caretaker-drill/1', id, at: '2026-11-21T00:00:00.000Z', proven: true, restoreMs: 1 }
    const { signDocument } = await import('../../../lib/backup/signed-document.ts')
    await store.put(`drills/${id}/record.json`, signDocument(record, null))
    expect((await listBackups(context('proven')))[0]?.proven).toBeUndefined()
    await store.put(`drills/${id}/record.json`, signDocument(record, deriveSigner(strangerKey)))
    expect((await listBackups(context('proven')))[0]?.proven).toBeUndefined()
    await store.put(`drills/${id}/record.json`, signDocument(record, deriveSigner(serverKey)))
    expect((await listBackups(context('proven')))[0]?.proven).toMatchObject({ proven: true })
  })
})

test('without ENCRYPTION_KEY a backup is made, not signed, and has to be asked for in so many words', async () => {
  const keyless = context('keyless', { env: {}, db: source.db })
  const report = await backupDatabase(keyless)
  expect(report.signer).toBeNull()
  expect(await codeOf(restoreBackup(keyless, { id: report.id, identity, targetUrl: target.url }))).toBe('backup_untrusted')
  await emptied(async () => {
    expect(await restoreBackup(keyless, { id: report.id, identity, targetUrl: target.url, trustUnsigned: true })).toMatchObject({
      id: report.id,
    })
  })
  // Its own retention counts them: it signs nothing that could be told from them.
  expect(await pruneBackups(keyless)).toMatchObject({ kept: [{ id: report.id }], untrusted: [] })
})
