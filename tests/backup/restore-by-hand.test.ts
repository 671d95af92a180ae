import { execFile, spawnSync } from 'node:child_process'
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { generateX25519Identity, identityToRecipient } from 'age-encryption'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { backupDatabase } from '../../lib/backup/index.ts'
import { runPgDump } from '../../lib/backup/pg-dump/run-pg-dump.ts'
import { deriveSigner } from '../../lib/backup/signing/index.ts'
import { defineConfig } from '../../lib/config/index.ts'
import { openObjectStore } from '../../lib/drivers/objects/index.ts'
import { testContext } from '../support/context.ts'
import { createTestDatabase, useTestDatabase } from '../support/database.ts'
import { makeZoo } from './zoo.ts'

const run = promisify(execFile)
const has = (command: string) => spawnSync('sh', ['-c', `command -v ${command}`]).status === 0
const tools = ['psql', 'zstd', 'sha256sum', 'ssh-keygen'].every(has)

/** Stands in for age where it is not installed, on the project's own JavaScript implementation. */
const ageScript = `#!${process.execPath}
import { readFileSync } from 'node:fs'
import { Decrypter } from ${JSON.stringify(resolve('node_modules/age-encryption/dist/index.js'))}
const [flag, from, identityFile, file] = process.argv.slice(2)
if (flag !== '-d' || from !== '-i') process.exit(2)
const decrypter = new Decrypter()
for (const line of readFileSync(identityFile, 'utf8').split('\\n')) if (line.startsWith('AGE-SECRET-KEY-')) decrypter.addIdentity(line)
process.stdout.write(await decrypter.decrypt(readFileSync(file)))
`

describe.skipIf(!tools)('restore.sh, with age, zstd and psql alone', () => {
  const source = useTestDatabase({ template: 'template0' })
  let work: string
  let env: NodeJS.ProcessEnv

  beforeAll(async () => {
    work = await mkdtemp(join(tmpdir(), 'caretaker-by-hand-'))
    await mkdir(join(work, 'bin'))
    if (!has('age')) {
      await writeFile(join(work, 'bin/package.json'), '{"type":"module"}')
      await writeFile(join(work, 'bin/age'), ageScript)
      await chmod(join(work, 'bin/age'), 0o755)
    }
    env = { ...process.env, PATH: `${process.env.PATH}:${join(work, 'bin')}` }
    await makeZoo(source.db)
  })
  afterAll(() => rm(work, { recursive: true, force: true }))

  test('makes an equal database, and refuses a changed backup and a filled database', async () => {
    const identity = await generateX25519Identity()
    const ctx = testContext(source.db, {
      config: defineConfig({ app: { name: 'Zoo' }, backup: { recipients: [await identityToRecipient(identity)] } }),
      objects: () => openObjectStore(`file://${work}/store`, ctx.env),
    })
    const report = await backupDatabase(ctx)
    const folder = join(work, 'store/backups', report.id)
    await writeFile(join(work, 'identity.txt'), `# made for a test\n# signer: ${report.signer}\n${identity}\n`)
    const target = await createTestDatabase({ template: 'template0' })
    try {
      const restore = (more: NodeJS.ProcessEnv = {}) =>
        run('sh', [join(folder, 'restore.sh'), join(work, 'identity.txt'), target.url], { env: { ...env, ...more }, cwd: tmpdir() })

      const changed = join(folder, 'data/000001.copy.zst.age')
      const bytes = await readFile(changed)
      await writeFile(changed, Buffer.concat([bytes.subarray(0, -1), Buffer.from([(bytes.at(-1) ?? 0) ^ 1])]))
      await expect(restore()).rejects.toThrow(/SHA256|checksum/i)
      expect(await target.db.query("select from pg_namespace where nspname = 'zoo'")).toEqual([])
      await writeFile(changed, bytes)

      const stranger = deriveSigner('cd'.repeat(32)).publicKey
      await expect(restore({ SIGNER: stranger })).rejects.toThrow(/not signed by whom you believe/)
      const sums = join(folder, 'SHA256SUMS')
      const listed = await readFile(sums)
      await writeFile(sums, listed.subarray(0, listed.indexOf(10) + 1))
      await expect(restore()).rejects.toThrow(/not signed by whom you believe/)
      await writeFile(sums, listed)
      expect(await target.db.query("select from pg_namespace where nspname = 'zoo'")).toEqual([])

      // The lines of RESTORE.md, as they stand there.
      const notes = await readFile(join(folder, 'RESTORE.md'), 'utf8')
      const lines = /or newer:\n\n((?: {4}.+\n)+)/
        .exec(notes)?.[1]
        ?.replace('KEY', report.signer ?? '')
        .replaceAll('/tmp/allowed', `${work}/allowed`)
      expect((await run('sh', ['-ec', lines ?? 'exit 1'], { env, cwd: folder })).stdout).toMatch(
        /^Good "caretaker-backup" signature for caretaker/,
      )

      // Whatever the database says of its sessions.
      await target.db.execute(`alter database ${target.name} set default_transaction_read_only = on`)
      expect((await restore()).stderr).toMatch(/Good "caretaker-backup" signature/)
      const schema = async (url: string) =>
        (await runPgDump({ databaseUrl: url, runs: [['--schema-only', '--restrict-key=same']], signal: ctx.signal }))[0]
      expect(await schema(target.url)).toBe(await schema(source.url))
      const counts = `select (select count(*) from zoo.parents) as parents, (select sum(hashtextextended(t::text, 0)) from zoo.like_toast t) as toast,
        (select sum(hashtextextended(t::text, 0)) from zoo.oid_types t) as types, (select last_value from zoo.lonely) as lonely, (select md5(lo_get(424243))) as big`
      expect(await target.db.query(counts)).toEqual(await source.db.query(counts))

      await expect(restore()).rejects.toThrow(/already holds/)
    } finally {
      await target.drop()
    }
  })
})
