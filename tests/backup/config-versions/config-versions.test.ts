import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { generateX25519Identity, identityToRecipient } from 'age-encryption'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { diffConfigVersions, listConfigVersions, planConfigVersion, showConfigVersion, versionConfig } from '../../../lib/backup/index.ts'
import { defineConfig, type PolicyInput } from '../../../lib/config/index.ts'
import { openObjectStore } from '../../../lib/drivers/objects/index.ts'
import { fixedClock } from '../../../lib/platform/clock.ts'
import { readEnv } from '../../../lib/platform/env.ts'
import { testContext } from '../../support/context.ts'
import { useTestDatabase } from '../../support/database.ts'

const database = useTestDatabase()
const deployment = { jobs: [{ name: 'backup', schedule: '0 3 * * *' }] }
const clock = fixedClock('2026-01-01T00:00:00Z')
let folder: string
let identity: string
let recipient: string

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'caretaker-config-'))
  identity = await generateX25519Identity()
  recipient = await identityToRecipient(identity)
})
afterEach(() => rm(folder, { recursive: true, force: true }))

function context(more: Partial<PolicyInput> = {}, backup: PolicyInput['backup'] = {}, encryptionKey = '5a'.repeat(32)) {
  const env = readEnv({ ENCRYPTION_KEY: encryptionKey, LOG_LEVEL: 'debug' })
  return testContext(database.db, {
    env,
    clock,
    config: defineConfig({ app: { name: 'Config' }, ...more, backup: { recipients: [recipient], ...backup } }),
    objects: () => openObjectStore(`file://${folder}`, env),
  })
}

const day = 86_400_000

describe('versions of the configuration', () => {
  it('are stored when something has changed, and only then', async () => {
    expect(await planConfigVersion(context(), deployment)).toMatchObject([{ count: 1 }])
    const first = await versionConfig(context(), deployment)
    expect(first).toMatchObject({ changed: true, removed: [] })
    expect(first.id).toMatch(/^20260101T000000Z-[0-9a-f]{32}-[0-9a-f]{8}$/)
    clock.advance(1_000)
    expect(await versionConfig(context(), deployment)).toEqual({ id: first.id, changed: false, removed: [] })
    expect(await planConfigVersion(context(), deployment)).toMatchObject([{ count: 0 }])

    await database.db.execute('create table public.tastes (id int primary key, note text)')
    clock.advance(1_000)
    const second = await versionConfig(context(), deployment)
    expect(second.changed).toBe(true)
    clock.advance(1_000)
    const third = await versionConfig(context({ retention: [{ table: 'tastes', where: 'true', action: 'purge' }] }), {
      jobs: [...deployment.jobs, { name: 'retention', schedule: null }],
    })
    const listed = await listConfigVersions(context())
    expect(listed.map((version) => version.id)).toEqual([third.id, second.id, first.id])
    expect(listed[0]).toMatchObject({ encrypted: true, createdAt: '2026-01-01T00:00:03Z' })

    expect(await diffConfigVersions(context(), { from: first.id, to: second.id, identity })).toMatchObject({
      changes: [
        { path: 'database.objects.CONSTRAINT public.tastes tastes_pkey', change: 'added' },
        { path: 'database.objects.TABLE public.tastes', change: 'added' },
        { path: 'database.schemaSha256', change: 'changed' },
      ],
    })
    const { changes } = await diffConfigVersions(context(), { from: second.id, identity })
    expect(changes.map(({ path, change }) => [path, change])).toEqual([
      ['jobs.retention', 'added'],
      ['policy.retention', 'added'],
    ])
    await database.db.execute('drop table public.tastes')
  })

  it('hold the policy with functions as words, and no one reads them without the identity', async () => {
    const ctx = context({ webhooks: { stripe: { on: { 'invoice.paid': async () => undefined } } } })
    const { id } = await versionConfig(ctx, deployment)
    await expect(showConfigVersion(ctx, { id })).rejects.toMatchObject({ code: 'backup_identity' })
    const { content } = await showConfigVersion(ctx, { id: 'latest', identity })
    expect(content).toMatchObject({
      app: 'Config',
      policy: { app: { name: 'Config' }, webhooks: { stripe: { on: { 'invoice.paid': '[function]' } } } },
      jobs: deployment.jobs,
    })
    expect(content.database.objects['TABLE caretaker.runs']).toMatch(/^[0-9a-f]{16}$/)
    expect(content.database.migrations).toContain('20261121000000')
    expect(content.database.extensions.map((extension) => extension.name)).toContain('plpgsql')
    await expect(showConfigVersion(ctx, { id: '1999', identity })).rejects.toMatchObject({ code: 'object_missing' })
  })

  it('have names by which a guess at the configuration cannot be checked without the key', async () => {
    const one = await versionConfig(context(), deployment)
    const other = await versionConfig(context({}, {}, 'a5'.repeat(32)), deployment)
    expect(other.changed).toBe(true)
    expect(other.id.split('-')[1]).not.toBe(one.id.split('-')[1])
  })

  it('are kept as long as the policy says after another has replaced them, the newest for ever', async () => {
    const keep = { keep: { config: '10 days' } }
    const named = (name: string) => context({ health: { checks: { [name]: { kind: 'url', url: 'https://a.example' } } } }, keep)
    const a = await versionConfig(named('a'), deployment)
    clock.advance(20 * day)
    const b = await versionConfig(named('b'), deployment)
    expect(b.removed).toEqual([])
    clock.advance(5 * day)
    const c = await versionConfig(named('c'), deployment)
    // Ten days ago "a" was in force.
    expect(c.removed).toEqual([])
    clock.advance(6 * day)
    expect(await versionConfig(named('c'), deployment)).toEqual({ id: c.id, changed: false, removed: [a.id] })
    clock.advance(400 * day)
    expect((await versionConfig(named('c'), deployment)).removed).toEqual([b.id])
    expect(await readdir(join(folder, 'config'))).toEqual([`${c.id}.json.zst.age`])
  })
})
