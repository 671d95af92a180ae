import { beforeEach, describe, expect, it } from 'vitest'
import { appendAudit, canonicalJson, readAudit, verifyAudit } from '../../lib/platform/audit.ts'
import { fixedClock } from '../../lib/platform/clock.ts'
import { useTestDatabase } from '../support/database.ts'

describe('the audit chain', () => {
  const test = useTestDatabase()
  const clock = fixedClock('2026-11-21T10:00:00.123Z')
  const by = { actor: { type: 'operator', id: 'op-1', role: 'admin' } as const, clock }
  const append = (index: number) =>
    test.db.transaction((tx) =>
      appendAudit(tx, by, { action: 'gdpr.erased', target: `subject-${index}`, detail: { b: index, a: { z: 'ä "', y: [1, null, 1.5] } } }),
    )
  const seqs = async () =>
    (await test.db.query<{ seq: number }>('select seq::float8 as seq from caretaker.audit order by seq')).map((row) => row.seq)

  beforeEach(async () => {
    await test.db.execute('truncate caretaker.audit')
    for (let index = 1; index <= 5; index++) await append(index)
  })

  it('is whole as written, and when it is empty', async () => {
    expect(await verifyAudit(test.db)).toEqual({ rows: 5, brokenAt: null })
    await test.db.execute('truncate caretaker.audit')
    expect(await verifyAudit(test.db)).toEqual({ rows: 0, brokenAt: null })
  })

  it.each([
    ['at', `at = at + interval '1 millisecond'`],
    ['actor', `actor = jsonb_set(actor, '{id}', '"op-2"')`],
    ['action', `action = 'gdpr.exported'`],
    ['target', `target = 'subject-9'`],
    ['detail', `detail = detail || '{"b": 9}'`],
    ['detail, one key more', `detail = detail || '{"c": null}'`],
    ['previous_hash', `previous_hash = set_byte(previous_hash, 31, get_byte(previous_hash, 31) # 1)`],
    ['hash', `hash = set_byte(hash, 0, get_byte(hash, 0) # 128)`],
  ])('shows a change of %s at its row', async (_column, change) => {
    for (const seq of [1, 3, 5]) {
      await test.db.execute('truncate caretaker.audit')
      for (let index = 1; index <= 5; index++) await append(index)
      await test.db.execute(`update caretaker.audit set ${change} where seq = $1::bigint`, [seq])
      expect(await verifyAudit(test.db)).toEqual({ rows: seq - 1, brokenAt: seq })
    }
  })

  it('does not mind the order of keys in jsonb', async () => {
    await test.db.execute(`update caretaker.audit set detail = '{"a": {"y": [1, null, 1.5], "z": "ä \\""}, "b": 2}' where seq = 2`)
    expect(await verifyAudit(test.db)).toEqual({ rows: 5, brokenAt: null })
  })

  it('shows a removed row, also when the others are renumbered', async () => {
    await test.db.execute('delete from caretaker.audit where seq = 3')
    expect(await verifyAudit(test.db)).toEqual({ rows: 2, brokenAt: 3 })
    await test.db.execute('update caretaker.audit set seq = seq - 1 where seq = 4')
    await test.db.execute('update caretaker.audit set seq = seq - 1 where seq = 5')
    expect(await seqs()).toEqual([1, 2, 3, 4])
    expect(await verifyAudit(test.db)).toEqual({ rows: 2, brokenAt: 3 })
  })

  it('shows a row that was put in between, and two that were swapped', async () => {
    await test.db.execute('update caretaker.audit set seq = 6 where seq = 5')
    await test.db.execute(
      'insert into caretaker.audit select 5, at, actor, action, target, detail, previous_hash, hash from caretaker.audit where seq = 4',
    )
    expect(await verifyAudit(test.db)).toEqual({ rows: 4, brokenAt: 5 })
    await test.db.execute('delete from caretaker.audit where seq >= 5')
    for (const [from, to] of [
      [2, 99],
      [3, 2],
      [99, 3],
    ])
      await test.db.execute('update caretaker.audit set seq = $2::bigint where seq = $1::bigint', [from, to])
    expect(await verifyAudit(test.db)).toEqual({ rows: 1, brokenAt: 2 })
  })

  it('cannot tell that its tail was cut off: the head must be noted elsewhere', async () => {
    await test.db.execute('delete from caretaker.audit where seq >= 4')
    expect(await verifyAudit(test.db)).toEqual({ rows: 3, brokenAt: null })
  })

  it('stays one line when many append at once, and takes part in their transactions', async () => {
    const outcomes = await Promise.allSettled(
      Array.from({ length: 24 }, (_, index) =>
        test.db.transaction(async (tx) => {
          await appendAudit(tx, by, { action: 'test.done', target: String(index) })
          if (index % 4 === 0) throw new Error('rolled back')
        }),
      ),
    )
    expect(outcomes.filter((outcome) => outcome.status === 'fulfilled')).toHaveLength(18)
    expect(await verifyAudit(test.db)).toEqual({ rows: 23, brokenAt: null })
    expect(await seqs()).toEqual(Array.from({ length: 23 }, (_, index) => index + 1))
  })

  it('verifies across pages', async () => {
    await test.db.transaction(async (tx) => {
      for (let index = 6; index <= 1_003; index++) await appendAudit(tx, by, { action: 'test.done', target: String(index) })
    })
    expect(await verifyAudit(test.db)).toEqual({ rows: 1_003, brokenAt: null })
    await test.db.execute(`update caretaker.audit set target = 'x' where seq = 1001`)
    expect(await verifyAudit(test.db)).toEqual({ rows: 1_000, brokenAt: 1_001 })
  })
})

describe('canonicalJson', () => {
  it('gives one text for one value', () => {
    expect(canonicalJson({ b: [{ d: 1, c: 'x' }], a: null })).toBe('{"a":null,"b":[{"c":"x","d":1}]}')
    expect(canonicalJson({ a: null, b: [{ c: 'x', d: 1 }] })).toBe(canonicalJson({ b: [{ d: 1, c: 'x' }], a: null }))
    expect(canonicalJson([2, 1])).toBe('[2,1]')
  })
})

describe('reading the trail', () => {
  const test = useTestDatabase()

  it('is read back a page at a time, by time and by kind of action', async () => {
    const clock = fixedClock('2026-11-21T00:00:00Z')
    await test.db.transaction(async (tx) => {
      for (let n = 0; n < 1_005; n++)
        await appendAudit(
          tx,
          { actor: { type: 'system' }, clock },
          { action: n % 2 === 0 ? 'gdpr.exported' : 'gdprx.other', target: String(n) },
        )
    })
    const read = async (filter: Parameters<typeof readAudit>[1]) => {
      const rows = []
      for await (const row of readAudit(test.db, filter)) rows.push(row)
      return rows
    }
    const since = new Date('2026-11-21T00:00:00Z')
    const all = await read({ since })
    expect(all).toHaveLength(1_005)
    expect(all[0]).toMatchObject({ action: 'gdpr.exported', target: '0', hash: expect.stringMatching(/^[0-9a-f]{64}$/) })
    expect((await read({ since, action: 'gdpr' })).map(({ action }) => action)).toEqual(Array.from({ length: 503 }, () => 'gdpr.exported'))
    expect(await read({ since, action: 'gdpr_' })).toEqual([])
    expect(await read({ since: new Date('2026-11-21T00:00:01Z') })).toEqual([])
  })
})
