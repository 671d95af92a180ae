import { describe, expect, it } from 'vitest'
import { csvHeader, csvRow } from '../../../lib/maintenance/reports/csv.ts'
import fc from '../../support/fast-check.ts'

const text = 25
const columns = (count: number, typeOid = text) => Array.from({ length: count }, (_, index) => ({ name: `c${index}`, typeOid }))

/** RFC 4180, section 2, read strictly. */
function parse(csv: string): string[][] {
  const records: string[][] = []
  let i = 0
  while (i < csv.length) {
    const record: string[] = []
    for (;;) {
      let field = ''
      if (csv[i] === '"') {
        i++
        for (;;) {
          if (csv[i] === '"' && csv[i + 1] === '"') {
            field += '"'
            i += 2
          } else if (csv[i] === '"') {
            i++
            break
          } else if (i >= csv.length) throw new Error('an open quote')
          else field += csv[i++]
        }
      } else while (i < csv.length && csv[i] !== ',' && csv[i] !== '\r') field += csv[i++]
      record.push(field)
      if (csv[i] === ',') i++
      else if (csv.slice(i, i + 2) === '\r\n') {
        i += 2
        break
      } else throw new Error(`unexpected at ${i}`)
    }
    records.push(record)
  }
  return records
}

describe('CSV', () => {
  it('comes back as it was, whatever it holds', () => {
    fc.assert(
      fc.property(
        fc
          .integer({ min: 1, max: 5 })
          .chain((width) =>
            fc.array(fc.array(fc.option(fc.string({ unit: 'grapheme' })), { minLength: width, maxLength: width }), { minLength: 1 }),
          ),
        (rows) => {
          const named = columns(rows[0]?.length ?? 1)
          const csv = rows.map((row) => csvRow(named, row, { raw: true })).join('')
          expect(parse(csv)).toEqual(rows.map((row) => row.map((cell) => cell ?? '')))
        },
      ),
    )
  })

  it('tells nothing from an empty text', () => {
    expect(csvRow(columns(3), [null, '', 'a'])).toBe(',"",a\r\n')
    expect(csvRow(columns(1), [null])).toBe('""\r\n')
  })

  it('quotes what must be, and the header too', () => {
    expect(csvRow(columns(4), ['a,b', 'say "x"', 'two\nlines', 'cr\rlf'])).toBe('"a,b","say ""x""","two\nlines","cr\rlf"\r\n')
    expect(
      csvHeader([
        { name: 'total, all', typeOid: 20 },
        { name: '=x', typeOid: 20 },
      ]),
    ).toBe(`"total, all",'=x\r\n`)
  })

  it.each(['=1+1', '+cmd|x', '-2+3', '@SUM(A1)', '\t=1', '\r=1', '\n=1', '＝1+1', '＠x', '-', '+49 170'])(
    'lets no spreadsheet take %j for a formula',
    (value) => {
      expect(parse(csvRow(columns(1), [value]))).toEqual([[`'${value}`]])
      expect(parse(csvRow(columns(1), [value], { raw: true }))).toEqual([[value]])
    },
  )

  it('leaves numbers and times alone', () => {
    for (const value of ['-5', '+4917012345', '-0.5', '3', 'plain - text', 'a=b']) expect(csvRow(columns(1), [value])).toBe(`${value}\r\n`)
    expect(csvRow(columns(2, 1700), ['-1e-7', '-Infinity'])).toBe('-1e-7,-Infinity\r\n')
    expect(csvRow(columns(1, 1186), ['-01:00:00'])).toBe('-01:00:00\r\n')
  })
})
