import { describe, expect, it } from 'vitest'
import { bindReport, reportSqlIssues } from '../../../lib/maintenance/reports/bind.ts'
import { withoutLiterals } from '../../../lib/maintenance/statement.ts'
import fc from '../../support/fast-check.ts'

const window = {
  slot: new Date('2026-11-01T04:00:00Z'),
  from: new Date('2026-10-01T00:00:00Z'),
  to: new Date('2026-11-01T00:00:00Z'),
  timezone: 'Europe/Berlin',
  label: '2026-10',
}

describe('parameters of a report', () => {
  it('are bound by name, each once', () => {
    const bound = bindReport(
      `select :from::date, ':from', ":to", x::text, a[1:2], /* :slot */ :to, :from -- :timezone\n, (now() at time zone :timezone);`,
    )
    expect(bound.text).toBe(
      `select $1::timestamptz::date, ':from', ":to", x::text, a[1:2], /* :slot */ $2::timestamptz, $1::timestamptz -- :timezone\n, (now() at time zone $3::text)\n`,
    )
    expect(bound.values(window)).toEqual([window.from, window.to, 'Europe/Berlin'])
  })

  it.each<[sql: string, period: string | undefined, line: string]>([
    ['', undefined, 'reports.r.sql: found no statement, expected one query'],
    ['select 1; select 2', undefined, 'reports.r.sql: found several statements, expected one query'],
    [`select 'x`, undefined, 'reports.r.sql: has an unterminated string'],
    ['delete from t', undefined, 'reports.r.sql: found "delete from t…", expected a query (select, with, values or table)'],
    ['select $1', undefined, 'reports.r.sql: found the parameter $1, expected the named ones: :from, :to, :slot, :timezone'],
    ['select :form', 'day', 'reports.r.sql: found the parameter :form, expected one of :from, :to, :slot, :timezone'],
    ['select :to', undefined, 'reports.r.period: found nothing, expected one, because the query asks for :to'],
  ])('refuses %j', (sql, period, line) => {
    expect(reportSqlIssues({ sql, period }, 'reports.r').map((issue) => `${issue.path}: ${issue.message}`)).toEqual([line])
  })

  it.each([
    'select a[lo:hi] from t',
    'select :slot',
    'table t',
    'values (1)',
    'with x as (select 1) select * from x;',
    'select x :: text, y := 1',
  ])('takes %j', (sql) => {
    expect(reportSqlIssues({ sql }, 'reports.r')).toEqual([])
  })
})

describe('withoutLiterals', () => {
  it.each([
    [`select * from t where a = 'Ada''s' and b = 12.5e-3`, 'select * from t where a = ? and b = ?'],
    [`select E'it\\'s' || B'101' || x'ff' || U&'d' || N'x' || $tag$ 'Ada' $tag$ || $1`, 'select ? || ? || ? || ? || ? || ? || $1'],
    ['select "Ada 42", t2.col_3, 0xFF + .5 - 1.', 'select "Ada 42", t2.col_3, ? + ? - ?'],
    [`select 1 -- Ada\n, /* Ada /* Ada */ */ 2`, 'select ? , ?'],
    [`update t set a = 'open`, 'update t set a = ?'],
    ['select $$ open', 'select ?'],
    [`select 1 where id in (1, 2, 3, 4)`, 'select ? where id in (?, …)'],
    ['insert into t values ($1, $2::int, $3)', 'insert into t values ($1, …)'],
    ['create role x password md5deadbeef', 'create role x password md5deadbeef'],
    [`select a  \n\t from   t`, 'select a from t'],
  ])('makes of %j', (sql, text) => {
    expect(withoutLiterals(sql)).toBe(text)
  })

  it('shows no value, wherever it stands', () => {
    const around = fc.constantFrom('', ' ', '(', ', ', ' = ', '||', '::text ', ' and x like ')
    const quoted = fc.constantFrom(
      (value: string) => `'${value.replaceAll("'", "''")}'`,
      (value: string) => `E'${value.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`,
      (value: string) => `$q$${value.replaceAll('$', '')}$q$`,
      (value: string) => `/* ${value.replaceAll('*', '')} */`,
      (value: string) => `-- ${value.replaceAll(/[\n\r]/g, '')}\n`,
    )
    fc.assert(
      fc.property(fc.array(fc.tuple(around, quoted, fc.string({ maxLength: 8 }), around), { minLength: 1, maxLength: 6 }), (parts) => {
        const sql = `select ${parts.map(([before, quote, text, after]) => `${before}${quote(`${text}SECRET${text}`)}${after}`).join(' ')}`
        expect(withoutLiterals(sql)).not.toContain('SECRET')
      }),
      { numRuns: 300 },
    )
  })
})
