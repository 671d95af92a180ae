import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { defineConfig } from '../../../lib/config/index.ts'
import { openObjectStore } from '../../../lib/drivers/objects/index.ts'
import {
  eraseSubject,
  exportSubject,
  getRequest,
  listRequests,
  planRequests,
  processRequest,
  processRequestsJob,
  refuseRequest,
  requestErasure,
  requestExport,
  withdrawRequest,
} from '../../../lib/gdpr/index.ts'
import { fixedClock } from '../../../lib/platform/clock.ts'
import type { Context } from '../../../lib/platform/context.ts'
import { CaretakerError } from '../../../lib/platform/errors.ts'
import type { JobRun } from '../../../lib/platform/job.ts'
import { subjectTag } from '../../../lib/platform/log.ts'
import type { ObjectStore } from '../../../lib/platform/objects.ts'
import { testContext } from '../../support/context.ts'
import { createTestDatabase, type TestDatabase } from '../../support/database.ts'
import { unzip } from '../export/unzip.ts'
import { makeShop } from '../shop.ts'

let test: TestDatabase
let folder: string
let ctx: Context
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gdpr-requests-'))
})
afterAll(() => rm(folder, { recursive: true }))
beforeEach(async () => {
  test = await createTestDatabase()
  await makeShop(test.db)
  const made = testContext(test.db)
  const objects = await openObjectStore(`file://${await mkdtemp(join(folder, 'store-'))}`, made.env)
  ctx = {
    ...made,
    config: defineConfig({ app: { name: 'Shop' }, gdpr: { subject: { table: 'users' } } }),
    objects: () => Promise.resolve(objects),
  }
  return () => test.drop()
})

const run: JobRun = {
  id: '1',
  job: 'gdpr',
  slot: new Date(0),
  attempt: 1,
  params: {},
  checkpoint: null,
  save: () => Promise.resolve(),
  shouldHandOver: () => false,
  callForHelp: () => Promise.resolve(),
}

describe('requests', () => {
  it.each([
    ['2026-01-31T12:00:00Z', '2026-02-28T12:00:00.000Z'],
    ['2024-01-31T12:00:00Z', '2024-02-29T12:00:00.000Z'],
    ['2026-03-31T23:30:00Z', '2026-04-30T23:30:00.000Z'],
    ['2026-12-15T00:00:00Z', '2027-01-15T00:00:00.000Z'],
  ])('is due one calendar month after %s', async (received, due) => {
    const opened = await requestExport({ ...ctx, clock: fixedClock(received) }, { subject: '1' })
    expect(opened.dueAt.toISOString()).toBe(due)
  })

  it('are listed by their deadline: however many came later, the one that is overdue stands first', async () => {
    await test.db.execute(
      `insert into caretaker.gdpr_requests (kind, state, subject_hash, requested_by, received_at, due_at, finished_at)
       select 'export', case n % 2 when 0 then 'received' else 'done' end, 'h' || n, '{}', now() - interval '1 day' * n, now() - interval '1 day' * (n - 30),
         case n % 2 when 0 then null else now() end from generate_series(1, 300) n`,
    )
    const listed = await listRequests(ctx)
    expect(listed).toHaveLength(250)
    expect(listed[0]?.dueAt.getTime()).toBeLessThan(Date.now() - 269 * 86_400_000)
    expect(listed.slice(0, 150).every(({ finishedAt }) => finishedAt === null)).toBe(true)
  })

  it('joins the open request of the same kind, however many ask at once', async () => {
    const opened = await Promise.all(
      Array.from({ length: 6 }, (_, n) => requestErasure(ctx, { subject: n % 2 === 0 ? '1' : 'ada@example.org' })),
    )
    expect(new Set(opened.map(({ id }) => id)).size).toBe(1)
    expect(opened.filter(({ joined }) => !joined)).toHaveLength(1)
    expect((await requestExport(ctx, { subject: '1' })).id).not.toBe(opened[0]?.id)
    expect(await listRequests(ctx)).toHaveLength(2)
    expect(opened[0]?.subjectHash).toBe(subjectTag(ctx.env.ENCRYPTION_KEY as string, '1'))
  })

  it('refuses who is not there, and an id that is none', async () => {
    await expect(requestExport(ctx, { subject: '77' })).rejects.toMatchObject({ code: 'subject_not_found' })
    for (const id of ['', 'x', "'; drop table users; --", '00000000-0000-0000-0000-000000000000'])
      await expect(getRequest(ctx, id)).rejects.toMatchObject({ code: 'not_found' })
  })

  it('deletes the file of an export when its time is over, and says so', async () => {
    const clock = fixedClock('2026-11-21T12:00:00Z')
    const now = { ...ctx, clock }
    const { id } = await requestExport(now, { subject: '1' })
    await processRequestsJob(now, run)
    expect((await getRequest(now, id)).fileExpiresAt).toEqual(new Date('2026-11-28T12:00:00Z'))
    clock.advance(7 * 86_400_000 - 1)
    expect(await processRequestsJob(now, run)).toMatchObject({ result: { expired: 0 } })
    clock.advance(1)
    expect(await processRequestsJob(now, run)).toMatchObject({ result: { expired: 1 } })
    expect(await (await ctx.objects()).head(`gdpr/exports/${id}.zip`)).toBeNull()
    expect((await getRequest(now, id)).receipt).not.toHaveProperty('object')
    expect(await processRequestsJob(now, run)).toMatchObject({ result: { expired: 0 } })
  })

  it('carries out an export into the object store, once', async () => {
    const { id } = await requestExport(ctx, { subject: '1' })
    expect(await planRequests(ctx)).toMatchObject([{ action: `export the person of request ${id}` }])
    expect(await processRequestsJob(ctx, run)).toMatchObject({ status: 'done', result: { done: 1, failed: [] } })
    const done = await getRequest(ctx, id)
    expect(done).toMatchObject({ state: 'done', receipt: { object: `gdpr/exports/${id}.zip`, rows: expect.any(Number) } })
    const body = await (await ctx.objects()).get(`gdpr/exports/${id}.zip`)
    const chunks: Buffer[] = []
    for await (const chunk of body ?? []) chunks.push(chunk as Buffer)
    expect((await unzip(Buffer.concat(chunks))).has('manifest.json')).toBe(true)
    expect(await planRequests(ctx)).toEqual([])
    expect(await processRequest(ctx, id)).toEqual(done)
  })

  it('carries out an erasure; exports made before go with the person, and those that wait are refused', async () => {
    const exported = await requestExport(ctx, { subject: '1' })
    await processRequest(ctx, exported.id)
    const waiting = await requestExport(ctx, { subject: '1' })
    const { id } = await requestErasure(ctx, { subject: '1' })
    expect(await processRequest(ctx, id)).toMatchObject({
      state: 'done',
      receipt: { format: 'caretaker.gdpr.receipt/1', tombstone: `gdpr/tombstones/${new Date().toISOString().slice(0, 10)}/${id}.json` },
    })
    expect(await getRequest(ctx, waiting.id)).toMatchObject({ state: 'refused', reason: 'erased' })
    expect(await (await ctx.objects()).head(`gdpr/exports/${exported.id}.zip`)).toBeNull()
    expect(await test.db.query('select from caretaker.gdpr_requests where subject is not null')).toEqual([])
    expect(await test.db.query('select id from users order by 1')).toEqual([{ id: 2 }, { id: 3 }])
  })

  it('goes on with the others when one fails, and takes the failed one up again', async () => {
    const first = await requestExport(ctx, { subject: '1' })
    const second = await requestErasure(ctx, { subject: '2' })
    const broken = {
      ...ctx,
      objects: async () => ({ ...(await ctx.objects()), put: (key: string) => Promise.reject(new Error(`no room for ${key}`)) }),
    }
    await expect(processRequestsJob(broken, run)).rejects.toMatchObject({ code: 'job_failed' })
    expect((await getRequest(ctx, first.id)).state).not.toBe('done')
    expect(await processRequestsJob(ctx, run)).toMatchObject({ status: 'done', result: { done: 2 } })
    expect(await getRequest(ctx, second.id)).toMatchObject({
      state: 'done',
      receipt: { deleted: expect.arrayContaining([{ table: 'public.users', rows: 1 }]) },
    })
    expect((await readdir(folder)).length).toBeGreaterThan(0)
  })

  it.each([requestExport, requestErasure])('does nothing when a request is taken back while the worker takes it up (%#)', async (ask) => {
    const { id } = await ask(ctx, { subject: '1' })
    const takenBack: Context = {
      ...ctx,
      db: {
        ...ctx.db,
        query: async (sql, params) => {
          const rows = await ctx.db.query<never>(sql, params)
          if (sql.startsWith('select subject from')) await withdrawRequest(ctx, id)
          return rows
        },
      },
    }
    expect(await processRequest(takenBack, id)).toMatchObject({ state: 'refused', reason: 'withdrawn' })
    expect(await listRequests(ctx)).toHaveLength(1)
    expect(await test.db.query('select from users')).toHaveLength(3)
    expect(await (await ctx.objects()).head(`gdpr/exports/${id}.zip`)).toBeNull()
  })

  it('can be refused until rows have gone, and then knows the person no more', async () => {
    const { id } = await requestErasure(ctx, { subject: '1' })
    await test.db.execute(
      `update caretaker.gdpr_requests set state = 'in_progress', checkpoint = checkpoint || '{"person": "sealed"}' where id = $1::uuid`,
      [id],
    )
    await refuseRequest(ctx, id, 'We must keep it.')
    const [row] = await test.db.query('select subject, checkpoint from caretaker.gdpr_requests')
    expect(row).toEqual({ subject: null, checkpoint: { tags: expect.any(Array) } })
    await test.db.execute(`update caretaker.gdpr_requests set state = 'in_progress', checkpoint = '{"tags": [], "rows": {}}'`)
    await expect(refuseRequest(ctx, id, 'We must keep it.')).rejects.toMatchObject({ code: 'conflict' })
  })

  it('is not answered by what an operator exports for themselves', async () => {
    const { id } = await requestExport(ctx, { subject: '1' })
    const { request } = await exportSubject(ctx, { subject: '1', out: join(folder, 'operator.zip') })
    expect(request).not.toBe(id)
    expect(await getRequest(ctx, request ?? '')).toMatchObject({ kind: 'export', state: 'done', verifiedBy: 'operator' })
    expect(await processRequest(ctx, id)).toMatchObject({ state: 'done', receipt: { object: `gdpr/exports/${id}.zip` } })
  })

  it('ends an export whose person the app has deleted itself, and says why another one waits', async () => {
    await test.db.execute(`insert into users (id, email) values (50, 'dora@example.org')`)
    const gone = await requestExport(ctx, { subject: '50' })
    await test.db.execute('delete from users where id = 50')
    const waiting = await requestExport(ctx, { subject: '1' })
    const full = {
      ...ctx,
      objects: async () => ({
        ...(await ctx.objects()),
        put: async (...file: Parameters<ObjectStore['put']>) => {
          if (file[0].includes(waiting.id)) throw new CaretakerError('object_store_failed', 'full')
          return (await ctx.objects()).put(...file)
        },
      }),
    }
    expect(await processRequestsJob(full, run)).toMatchObject({ result: { done: 1, failed: [{ code: 'object_store_failed' }] } })
    expect(await getRequest(ctx, gone.id)).toMatchObject({ state: 'refused', reason: 'subject_not_found' })
    expect(await getRequest(ctx, waiting.id)).toMatchObject({ state: 'waiting', reason: 'object_store_failed' })
    expect(await processRequestsJob(ctx, run)).toMatchObject({ result: { done: 1, failed: [] } })
  })

  it('hands over between steps and in the middle of the search for residue, and misses nothing', async () => {
    const { id } = await requestErasure(ctx, { subject: '1' })
    // Each taking gets a little further than the one before.
    let takings = 0
    for (let status = 'hand-over'; status === 'hand-over'; takings++) {
      let asked = 0
      ;({ status } = await processRequestsJob(ctx, { ...run, shouldHandOver: () => ++asked > 3 + takings }))
    }
    expect(takings).toBeGreaterThan(12)
    const { receipt: inParts } = await getRequest(ctx, id)
    await test.db.execute(`insert into users (id, email) values (51, 'eli@example.org')`)
    const other = await requestErasure(ctx, { subject: '51' })
    const { receipt: atOnce } = await processRequest(ctx, other.id)
    const scanned = (receipt: unknown) => (receipt as { residue: { scanned: number; notScanned: string[] } }).residue
    expect(scanned(inParts)).toMatchObject({ scanned: scanned(atOnce).scanned, notScanned: [] })
    expect(Object.keys(scanned(inParts)).sort()).toEqual(['found', 'notScanned', 'scanned'])
  })

  it('lets only one of two erasures at once do the work', async () => {
    const outcomes = await Promise.all([eraseSubject(ctx, { subject: '1' }), eraseSubject(ctx, { subject: '1' })])
    expect(outcomes.map(({ status }) => status).sort()).toEqual(['already-erased', 'erased'])
    expect(await listRequests(ctx)).toHaveLength(1)
  })
})
