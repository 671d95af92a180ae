import { afterEach, describe, expect, it } from 'vitest'
import { useTestDatabase } from '../../support/database.ts'
import { retentionRig } from './rig.ts'

describe('detaching partitions', () => {
  const test = useTestDatabase()
  const { policy, counts, count, monthly } = retentionRig(test)
  afterEach(() => test.db.execute('drop schema public cascade'))

  it('leaves a partition out of sight when older transactions do not end, says so, and drops it in the next run', async () => {
    const names = await monthly('events')
    const ctx = policy({ table: 'events', column: 'at', olderThan: '2 months', action: 'purge' })
    await test.db.transaction(async (tx) => {
      await tx.query('select count(*) from events')
      const done = (await counts(ctx))['purge events']
      expect(done?.left).toBe(`transactions that began before ${names[0]} was detached have not ended`)
    })
    expect(await count(`caretaker.outbox where topic = 'retention.deferred'`)).toBe(1)
    expect((await counts(ctx))['purge events']).toMatchObject({ partitionsDropped: 3 })
    expect(await count(`pg_inherits where inhparent = 'events'::regclass`)).toBe(3)
  })
})
