import { setTimeout as delay } from 'node:timers/promises'
import { beforeEach, describe, expect, it } from 'vitest'
import { claimSlot, findRun, work } from '../../lib/jobs/index.ts'
import { testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'
import { jobOf } from './jobs.ts'

const test = useTestDatabase()

beforeEach(async () => {
  await test.db.execute('truncate caretaker.runs, caretaker.watched_jobs, caretaker.outbox')
})

describe('runs of one job', () => {
  it.each([
    [0, 1],
    [2, 3],
  ])('with overlap %i are at most %i at a time, with more workers than that', { timeout: 60_000 }, async (overlap, most) => {
    const ctx = testContext(test.db)
    for (let day = 1; day <= 6; day++) await claimSlot(ctx, { job: 'sweep', slot: new Date(Date.UTC(2026, 0, day)), kind: 'planned' })
    let atWork = 0
    let peak = 0
    const full = Promise.withResolvers<void>()
    const jobs = [
      jobOf(
        'sweep',
        { cron: '0 0 * * *', overlap },
        {
          run: async () => {
            atWork++
            peak = Math.max(peak, atWork)
            if (atWork === most) full.resolve()
            // The first ones stay until as many as may be are there.
            await Promise.race([full.promise, delay(20_000, undefined, { ref: false })])
            await delay(20)
            atWork--
            return { status: 'done', result: {} }
          },
        },
      ),
    ]
    await Promise.all(Array.from({ length: 4 }, () => work(ctx, jobs)))
    expect(peak).toBe(most)
    const states = await test.db.query('select state, count(*)::int as runs from caretaker.runs group by 1')
    expect(states).toEqual([{ state: 'done', runs: 6 }])
  })

  it('go on where they were begun before there were places', async () => {
    const ctx = testContext(test.db)
    const { run } = await claimSlot(ctx, { job: 'sweep', slot: new Date(Date.UTC(2026, 0, 1)), kind: 'planned' })
    await test.db.execute('update caretaker.runs set attempt = 3, dispatch = 2')
    await work(ctx, [jobOf('sweep', '0 0 * * *')])
    expect(await findRun(test.db, run.id)).toMatchObject({ state: 'done', attempt: 4 })
  })

  it('do not slip in between the hand-overs of one that was begun', { timeout: 60_000 }, async () => {
    const ctx = testContext(test.db)
    for (let day = 1; day <= 2; day++) await claimSlot(ctx, { job: 'sweep', slot: new Date(Date.UTC(2026, 0, day)), kind: 'planned' })
    const order: string[] = []
    await work(ctx, [
      jobOf('sweep', '0 0 * * *', {
        run: async (_ctx, run) => {
          const part = ((run.checkpoint as number | null) ?? 0) + 1
          order.push(`${run.slot.getUTCDate()}.${part}`)
          await run.save(part)
          return part < 3 ? { status: 'hand-over' } : { status: 'done', result: {} }
        },
      }),
    ])
    expect(order).toEqual(['1.1', '1.2', '1.3', '2.1', '2.2', '2.3'])
  })
})
