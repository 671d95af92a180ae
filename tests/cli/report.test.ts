import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Output } from '../../cli/command.ts'
import { commands } from '../../cli/commands/report.ts'
import { defineConfig, type PolicyInput } from '../../lib/config/index.ts'
import { CaretakerError } from '../../lib/platform/errors.ts'
import { testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'
import { caretaker } from './caretaker.ts'

const policy: PolicyInput = {
  app: { name: 'Test', timezone: 'Europe/Berlin' },
  reports: {
    visits: {
      period: 'month',
      description: 'Who came',
      into: 'monthly',
      sql: 'select (:from at time zone :timezone)::date as month, count(*) as visits, min(name) as first from visits where at >= :from and at < :to',
    },
    everyone: { sql: 'select name from visits order by name' },
  },
}

describe('caretaker report', () => {
  // A database that has never seen Caretaker: reading a report needs nothing installed in it.
  const test = useTestDatabase({ template: 'template0' })
  let cwd: string

  beforeAll(async () => {
    cwd = await mkdtemp(join(tmpdir(), 'caretaker-report-'))
    await test.db.execute('create table visits (at timestamptz, name text)')
    await test.db.execute('create table monthly (month date primary key, visits int, first text)')
    await test.db.execute(
      `insert into visits values ('2026-10-31T22:30:00Z', '=HYPERLINK("x")'), ('2026-10-31T23:30:00Z', 'Bob, the second')`,
    )
  })
  afterAll(() => rm(cwd, { recursive: true, force: true }))

  interface Result {
    value: unknown
    human: string
  }
  const run = async (name: string, args: string[] = [], flags: Record<string, string | boolean> = {}): Promise<Result> => {
    const results: Result[] = []
    const out: Output = {
      json: flags.json === true,
      result: (value, human) => {
        results.push({ value, human })
      },
      line: () => undefined,
      progress: () => undefined,
    }
    const ctx = testContext(test.db, { config: defineConfig(policy) })
    await commands.find((one) => one.name === name)?.run({ args, flags, out, context: () => Promise.resolve(ctx) })
    return results[0] ?? { value: undefined, human: '' }
  }

  it('lists reports, and shows one', async () => {
    expect((await run('report list')).value).toEqual([
      { name: 'visits', period: 'month', into: 'monthly', store: null, description: 'Who came' },
      { name: 'everyone', period: null, into: null, store: null, description: null },
    ])
    expect((await run('report run', ['visits'], { at: '2026-11-01' })).human).toMatch(
      /^visits of 2026-10\nmonth +visits +first\n[─ ]+\n2026-10-01 +1 +=HYPERLINK\("x"\)$/,
    )
    expect(await test.db.query('select * from monthly')).toEqual([])
  })

  it('writes to the terminal as CSV or JSON and nothing else', async () => {
    await writeFile(join(cwd, 'policy.mjs'), `export default ${JSON.stringify(policy)}`)
    const common = ['--database-url', test.url, '--config', 'policy.mjs']
    const [csv, json] = await Promise.all([
      caretaker(['report', 'run', 'everyone', '--format', 'csv', ...common], { cwd }),
      caretaker(['report', 'run', 'visits', '--at', '2026-11-01T00:00:00+01:00', '--json', ...common], { cwd }),
    ])
    expect(csv).toEqual({ code: 0, stdout: `name\r\n"'=HYPERLINK(""x"")"\r\n"Bob, the second"\r\n`, stderr: '' })
    expect(JSON.parse(json.stdout)).toMatchObject({
      report: 'visits',
      from: '2026-09-30T22:00:00.000Z',
      to: '2026-10-31T23:00:00.000Z',
      rows: [{ month: '2026-10-01', visits: 1, first: '=HYPERLINK("x")' }],
    })
  })

  it('writes a file whole and only for its owner, and overwrites none unasked', async () => {
    const file = join(cwd, 'everyone.csv')
    expect((await run('report run', ['everyone'], { out: file, format: 'csv', raw: true })).value).toEqual({
      report: 'everyone',
      out: file,
      format: 'csv',
      bytes: 46,
    })
    expect(await readFile(file, 'utf8')).toBe('name\r\n"=HYPERLINK(""x"")"\r\n"Bob, the second"\r\n')
    expect(((await stat(file)).mode & 0o777).toString(8)).toBe('600')
    await expect(run('report run', ['everyone'], { out: file })).rejects.toMatchObject({
      code: 'bad_request',
      detail: expect.stringContaining('is there already'),
    })
    await test.db.execute(`alter table visits rename to gone`)
    try {
      await expect(run('report run', ['everyone'], { out: file, force: true })).rejects.toMatchObject({
        code: 'policy_invalid',
        detail: expect.stringContaining('relation "visits" does not exist'),
      })
    } finally {
      await test.db.execute(`alter table gone rename to visits`)
    }
    expect(await readFile(file, 'utf8')).toContain('Bob')
    await run('report run', ['everyone'], { out: join(cwd, 'everyone.json') })
    expect(JSON.parse(await readFile(join(cwd, 'everyone.json'), 'utf8'))).toMatchObject({ report: 'everyone', rows: [{}, {}] })
    expect((await readdir(cwd)).filter((name) => name.startsWith('everyone')).sort()).toEqual(['everyone.csv', 'everyone.json'])
  })

  it('keeps the report of a period that is past', async () => {
    expect((await run('report run', ['visits'], { keep: true, at: '2026-11-02' })).human).toBe('visits of 2026-10 is kept: 1 row.')
    expect(await test.db.query('select month::text, visits from monthly')).toEqual([{ month: '2026-10-01', visits: 1 }])
  })

  it('tells of the database, for a person and as JSON', async () => {
    const { human, value } = await run('report database')
    for (const words of [
      'Tables: dead rows and bloat',
      'Indexes that nothing reads\n  Nothing.',
      '  ! pg_stat_statements is not installed',
    ])
      expect(human).toContain(words)
    expect(value).toMatchObject({ takenAt: expect.any(Date), sections: { length: 11 } })
    expect((await run('report database', ['wraparound'])).value).toMatchObject({ sections: [{ name: 'wraparound' }] })
  })

  it.each<[string, string[], Record<string, string | boolean>, string]>([
    ['report run', [], {}, 'takes the name of one report, found none'],
    ['report run', ['visit'], {}, 'There is no report "visit"; did you mean "visits"? Known: visits, everyone.'],
    ['report run', ['visits'], { at: 'yesterday' }, '--at: found "yesterday", expected a date or a time with its zone'],
    ['report run', ['visits'], { at: '2026-13-01' }, '--at: found "2026-13-01"'],
    ['report run', ['visits'], { format: 'xlsx' }, '--format: found "xlsx", expected csv or json'],
    ['report run', ['visits'], { format: 'csv', json: true }, '--json prints JSON'],
    ['report run', ['visits'], { raw: true }, '--raw is for CSV'],
    ['report run', ['visits'], { keep: true, out: 'x.csv' }, '--keep puts the report where its policy says'],
    ['report run', ['everyone'], { keep: true }, 'has neither "into" nor "store"'],
    ['report run', ['visits'], { out: 'no/such/folder/x.csv' }, 'no/such/folder/x.csv cannot be written (ENOENT)'],
    ['report database', ['bloat'], {}, 'There is no section "bloat". Known: database, tables'],
  ])('%s %j %j is refused as bad usage', async (name, args, flags, words) => {
    const error = await run(name, args, flags).catch((thrown: unknown) => thrown)
    if (!(error instanceof CaretakerError)) throw new Error('expected a CaretakerError')
    expect(['bad_request', 'invalid_input']).toContain(error.code)
    expect(error.detail).toContain(words)
  })
})
