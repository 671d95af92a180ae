import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { useTestDatabase } from '../support/database.ts'
import { caretaker } from './caretaker.ts'

describe('caretaker report', () => {
  // A database that has never seen Caretaker: reading a report needs nothing installed in it.
  const test = useTestDatabase({ template: 'template0' })
  let cwd: string
  const run = (...args: string[]) => caretaker(['report', ...args, '--database-url', test.url, '--config', 'policy.mjs'], { cwd })

  beforeAll(async () => {
    cwd = await mkdtemp(join(tmpdir(), 'caretaker-report-'))
    await writeFile(
      join(cwd, 'policy.mjs'),
      `export default {
        app: { name: 'Test', timezone: 'Europe/Berlin' },
        reports: {
          visits: { period: 'month', description: 'Who came', into: 'monthly',
            sql: 'select (:from at time zone :timezone)::date as month, count(*) as visits, min(name) as first from visits where at >= :from and at < :to' },
          everyone: { sql: 'select name from visits order by name' },
        },
      }`,
    )
    await test.db.execute('create table visits (at timestamptz, name text)')
    await test.db.execute('create table monthly (month date primary key, visits int, first text)')
    await test.db.execute(
      `insert into visits values ('2026-10-31T22:30:00Z', '=HYPERLINK("x")'), ('2026-10-31T23:30:00Z', 'Bob, the second')`,
    )
  })
  afterAll(() => rm(cwd, { recursive: true, force: true }))

  it('lists, shows, and writes to the terminal as CSV or JSON', async () => {
    const [listed, shown, csv, json] = await Promise.all([
      run('list', '--json'),
      run('run', 'visits', '--at', '2026-11-01'),
      run('run', 'everyone', '--format', 'csv'),
      run('run', 'visits', '--at', '2026-11-01T00:00:00+01:00', '--json'),
    ])
    expect(JSON.parse(listed.stdout)).toEqual([
      { name: 'visits', period: 'month', into: 'monthly', store: null, description: 'Who came' },
      { name: 'everyone', period: null, into: null, store: null, description: null },
    ])
    expect(shown).toMatchObject({ code: 0, stderr: '' })
    expect(shown.stdout).toMatch(/^visits of 2026-10\nmonth +visits +first\n[─ ]+\n2026-10-01 +1 +=HYPERLINK\("x"\)\n$/)
    expect(csv.stdout).toBe(`name\r\n"'=HYPERLINK(""x"")"\r\n"Bob, the second"\r\n`)
    expect(JSON.parse(json.stdout)).toMatchObject({
      report: 'visits',
      from: '2026-09-30T22:00:00.000Z',
      to: '2026-10-31T23:00:00.000Z',
      rows: [{ month: '2026-10-01', visits: 1, first: '=HYPERLINK("x")' }],
    })
    expect(await test.db.query('select * from monthly')).toEqual([])
  })

  it('writes a file whole and only for its owner, and overwrites none unasked', async () => {
    const written = await run('run', 'everyone', '--out', 'everyone.csv', '--format', 'csv', '--raw', '--json')
    const file = join(cwd, 'everyone.csv')
    expect(JSON.parse(written.stdout)).toEqual({ report: 'everyone', out: file, format: 'csv', bytes: 46 })
    expect(await readFile(file, 'utf8')).toBe('name\r\n"=HYPERLINK(""x"")"\r\n"Bob, the second"\r\n')
    expect(((await stat(file)).mode & 0o777).toString(8)).toBe('600')
    const again = await run('run', 'everyone', '--out', 'everyone.csv')
    expect(again).toMatchObject({ code: 2, stderr: expect.stringContaining('is there already') })
    await test.db.execute(`alter table visits rename to gone`)
    try {
      const broken = await run('run', 'everyone', '--out', 'everyone.csv', '--force')
      expect(broken).toMatchObject({ code: 1, stderr: expect.stringContaining('relation "visits" does not exist') })
    } finally {
      await test.db.execute(`alter table gone rename to visits`)
    }
    expect(await readFile(file, 'utf8')).toContain('Bob')
    expect((await readdir(cwd)).sort()).toEqual(['everyone.csv', 'policy.mjs'])
  })

  it('keeps the report of a period that is past', async () => {
    const [kept, nowhere] = await Promise.all([run('run', 'visits', '--keep', '--at', '2026-11-02'), run('run', 'everyone', '--keep')])
    expect(kept).toMatchObject({ code: 0, stdout: 'visits of 2026-10 is kept: 1 row.\n' })
    expect(await test.db.query('select month::text, visits from monthly')).toEqual([{ month: '2026-10-01', visits: 1 }])
    expect(nowhere).toMatchObject({ code: 2, stderr: expect.stringContaining('has neither "into" nor "store"') })
  })

  it('tells of the database, for a person and as JSON', async () => {
    const [all, one, wrong] = await Promise.all([run('database'), run('database', 'wraparound', '--json'), run('database', 'bloat')])
    expect(all.code).toBe(0)
    for (const title of ['Tables: dead rows and bloat', 'Indexes that nothing reads\n  Nothing.', 'pg_stat_statements is not installed'])
      expect(all.stdout).toContain(title)
    expect(JSON.parse(one.stdout)).toMatchObject({ sections: [{ name: 'wraparound', findings: expect.any(Array) }] })
    expect(wrong).toMatchObject({ code: 2, stderr: expect.stringContaining('There is no section "bloat". Known: database, tables') })
  })

  it('says what is wrong with what it was asked, and asks nobody for it', async () => {
    const cases: [string[], string][] = [
      [['run'], 'takes the name of one report, found none'],
      [['run', 'visit'], 'There is no report "visit"; did you mean "visits"? Known: visits, everyone.'],
      [['run', 'visits', '--at', '2026-13-01'], '--at: found "2026-13-01", expected a date or a time with its zone'],
      [['run', 'visits', '--format', 'xlsx'], '--format: found "xlsx", expected csv or json'],
      [['run', 'visits', '--raw'], '--raw is for CSV'],
      [['run', 'visits', '--keep', '--out', 'x.csv'], '--keep puts the report where its policy says'],
      [['run', 'visits', '--out', 'no/such/folder/x.csv'], '--out: '],
    ]
    const answers = await Promise.all(cases.map(([args]) => run(...args)))
    for (const [index, { code, stdout, stderr }] of answers.entries()) {
      expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
      expect(stderr).toContain(cases[index]?.[1])
    }
  })
})
