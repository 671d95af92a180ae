import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { backupJob, backupVerifyJob, lossNow, signerOf } from '../../lib/backup/index.ts'
import { defineConfig } from '../../lib/config/index.ts'
import { openObjectStore } from '../../lib/drivers/objects/index.ts'
import { keyHash } from '../../lib/http/index.ts'
import { fixedClock } from '../../lib/platform/clock.ts'
import type { Context } from '../../lib/platform/context.ts'
import { ops } from '../../lib/routes/ops.ts'
import { openRun } from '../maintenance/job-run.ts'
import { testContext } from '../support/context.ts'
import { createTestDatabase, type TestDatabase, useTestDatabase } from '../support/database.ts'
import { bearer, testServer } from '../support/serve.ts'

const test = useTestDatabase()
let scratch: TestDatabase
let folder: string
let ctx: Context

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'caretaker-ops-backups-'))
  scratch = await createTestDatabase({ template: 'template0' })
  const base = testContext(test.db)
  ctx = {
    ...base,
    env: { ...base.env, DRILL_DATABASE_URL: scratch.url },
    config: defineConfig({ app: { name: 'Ops' }, backup: { encryption: 'none' } }),
    objects: () => openObjectStore(`file://${folder}`, base.env),
  }
  await test.db.execute('insert into caretaker.api_keys (name, role, hash) values ($1, $1, $2::bytea)', [
    'viewer',
    keyHash('ck_viewer_key'),
  ])
})
afterAll(async () => {
  await scratch.drop()
  await rm(folder, { recursive: true, force: true })
})

const ask = async (of: Context = ctx) => (await testServer(ops(), of).request('/api/ops/backups', bearer('ck_viewer_key'))).json()

describe('an operator sees what a loss would cost now', () => {
  it('not before there is a backup', async () => {
    expect(await ask()).toEqual({ loss: null, signers: [] })
  })

  it('what is lost from the backup on, how long it takes from the drill on, and it grows by the minute', async () => {
    expect(await backupJob(ctx, await openRun(test.db, 'backup'))).toMatchObject({ status: 'done' })
    expect(await ask()).toMatchObject({
      loss: { coveredUntil: expect.stringMatching(/^20/), lostMs: expect.any(Number), openAgainMs: null, drilledAt: null },
      signers: [{ publicKey: signerOf(ctx.env)?.publicKey }],
    })
    const drilled = await backupVerifyJob(ctx, await openRun(test.db, 'backup-verify'))
    expect(drilled).toMatchObject({ status: 'done', result: { proven: true } })
    const { loss } = (await ask()) as { loss: { coveredUntil: string; openAgainMs: number } }
    expect(drilled).toMatchObject({ result: { rtoMs: loss.openAgainMs } })
    const fromStore = await lossNow(ctx)
    expect(new Date(loss.coveredUntil)).toEqual(new Date(fromStore.coveredUntil ?? ''))
    const later = { ...ctx, clock: fixedClock(new Date(new Date(loss.coveredUntil).getTime() + 42 * 60_000)) }
    expect(await ask(later)).toMatchObject({ loss: { lostMs: 42 * 60_000 } })
  })

  it('and nobody else does', async () => {
    expect((await testServer(ops(), ctx).request('/api/ops/backups')).status).toBe(401)
    expect((await testServer(ops(), ctx).request('/api/ops/backups', bearer('ck_other'))).status).toBe(401)
  })
})
