import { describe, expect, test } from 'vitest'
import { parseChange, readTarget } from '../../../lib/backup/increments/change-text.ts'
import { CopyLines, unescapeCopy } from '../../../lib/backup/increments/copy-lines.ts'
import { formatInstant, parseInstant } from '../../../lib/backup/increments/instant.ts'
import { formatLsn, fullTransactionId, lsn, snapshotOf } from '../../../lib/backup/increments/position.ts'

const row = (entries: Record<string, string | null | undefined>) => new Map(Object.entries(entries))

describe('changes', () => {
  test.each([
    ['BEGIN 739', { kind: 'begin', transaction: 739n }],
    ['COMMIT 739 (at 2026-11-21 04:31:59.08+00)', { kind: 'commit', transaction: 739n, at: '2026-11-21 04:31:59.08+00' }],
    [
      `table public.t: INSERT: id[integer]:1 body[text]:'it''s\\ a]: "b' n[numeric]:NaN v[bit varying]:B'101' b[boolean]:true tags[integer[]]:null`,
      {
        kind: 'insert',
        table: { schema: 'public', name: 't' },
        row: row({ id: '1', body: `it's\\ a]: "b`, n: 'NaN', v: '101', b: 'true', tags: null }),
      },
    ],
    [
      `table "Sch: x"."we""ird": UPDATE: old-key: "x]:"[public."a]:b"]:'1' new-tuple: "x]:"[public."a]:b"]:'2' toast[text]:unchanged-toast-datum n[text]:'null'`,
      {
        kind: 'update',
        table: { schema: 'Sch: x', name: 'we"ird' },
        old: row({ 'x]:': '1' }),
        row: row({ 'x]:': '2', toast: undefined, n: 'null' }),
      },
    ],
    [
      `table public.t: UPDATE: a[text]:' new-tuple: x' b[text]:'old-key:'`,
      { kind: 'update', table: { schema: 'public', name: 't' }, old: null, row: row({ a: ' new-tuple: x', b: 'old-key:' }) },
    ],
    ['table public.t: DELETE: (no-tuple-data)', { kind: 'delete', table: { schema: 'public', name: 't' }, old: null }],
    ['table public.t: DELETE: id[bigint]:-5', { kind: 'delete', table: { schema: 'public', name: 't' }, old: row({ id: '-5' }) }],
    [
      'table public.t, "A"."B": TRUNCATE: restart_seqs cascade',
      {
        kind: 'truncate',
        tables: [
          { schema: 'public', name: 't' },
          { schema: 'A', name: 'B' },
        ],
        cascade: true,
        restartSequences: true,
      },
    ],
    ['message: transactional: 1 prefix: caretaker, sz: 4 content:mark', { kind: 'message' }],
  ])('%s', (text, expected) => {
    expect(parseChange(text)).toEqual(expected)
  })

  test.each([
    ['an unknown line', 'DROP TABLE t'],
    ['an open quote', `table public.t: INSERT: a[text]:'x`],
    ['no operation', 'table public.t: MERGE: a[text]:null'],
    ['no type', 'table public.t: INSERT: a:null'],
    ['a commit without a time', 'COMMIT 5'],
  ])('%s is refused', (_, text) => {
    expect(() => parseChange(text)).toThrow(SyntaxError)
  })

  test('the target is known from the beginning of the text', () => {
    expect(readTarget(`table a."b: c": INSERT: body[text]:'cut off he`)).toEqual({
      tables: [{ schema: 'a', name: 'b: c' }],
      operation: 'INSERT',
    })
  })
})

test('lines are the same however they arrive', () => {
  const text = Buffer.from('0/1\t1\tBEGIN 1\n\n0/2\t1\tä\\n\\\\x\n')
  const whole = [...new CopyLines().push(text)].map(String)
  expect(whole).toEqual(['0/1\t1\tBEGIN 1', '', '0/2\t1\tä\\n\\\\x'])
  const lines = new CopyLines()
  expect([...text].flatMap((byte) => [...lines.push(Buffer.from([byte]))].map(String))).toEqual(whole)
  expect(lines.open).toBe(false)
  expect([...lines.push(Buffer.from('rest'))]).toEqual([])
  expect(lines.open).toBe(true)
  expect(unescapeCopy('a\\tb\\\\n\\n')).toBe('a\tb\\n\n')
})

describe('instants', () => {
  test.each([
    ['2026-11-21T10:30:00Z', '2026-11-21T10:30:00.000000Z'],
    ['2026-11-21 10:30:00.5+02', '2026-11-21T08:30:00.500000Z'],
    ['2026-11-21T10:30:00.123456789-03:30', '2026-11-21T14:00:00.123456Z'],
    ['2026-11-21T10:30', '2026-11-21T10:30:00.000000Z'],
    ['2026-11-21', '2026-11-21T00:00:00.000000Z'],
    ['2026-11-21t10:30:00,25z', '2026-11-21T10:30:00.250000Z'],
  ])('%s', (text, expected) => {
    expect(formatInstant(parseInstant(text) ?? 0n)).toBe(expected)
  })

  test.each(['', 'now', '2026-02-30', '2026-11-21T25:00Z', '21.11.2026', '2026-11-21T10:30:00+99', '1763721000'])(
    '"%s" is none',
    (text) => {
      expect(parseInstant(text)).toBeUndefined()
    },
  )
})

describe('positions', () => {
  test('compare as numbers, not as text', () => {
    expect(lsn('A/FF') < lsn('10/0')).toBe(true)
    expect(formatLsn(lsn('16/B374D848'))).toBe('16/B374D848')
  })

  test('the half of a transaction id in the log becomes whole on both sides of a wrap', () => {
    const wrap = 5n << 32n
    expect(fullTransactionId(10n, wrap + 20n)).toBe(wrap + 10n)
    expect(fullTransactionId(0xffff_fff0n, wrap + 20n)).toBe(wrap - 16n)
    expect(fullTransactionId(3n, wrap - 2n)).toBe(wrap + 3n)
  })

  test('a snapshot holds what was committed, not what was under way', () => {
    const { holds } = snapshotOf('100:110:101,105')
    expect([99n, 100n, 101n, 104n, 105n, 109n, 110n].map(holds)).toEqual([true, true, false, true, false, true, false])
    expect(snapshotOf('7:7:').holds(7n)).toBe(false)
  })
})
