import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { builtInNames, jobs } from '../../../lib/catalog.ts'
import { defineConfig, type Policy, type PolicyInput } from '../../../lib/config/index.ts'
import { importPgCron, type PgCronImport, policyLines } from '../../../lib/jobs/index.ts'
import { openDatabase } from '../../../lib/platform/db.ts'
import { caretaker } from '../../cli/caretaker.ts'
import { testContext } from '../../support/context.ts'
import { createTestDatabase, useTestDatabase } from '../../support/database.ts'

const test = useTestDatabase()
let folder: string
let found: PgCronImport
beforeAll(async () => {
  await test.db.execute(await readFile(new URL('pg-cron.sql', import.meta.url), 'utf8'))
  found = await importPgCron(testContext(test.db), builtInNames)
  folder = await mkdtemp(join(tmpdir(), 'caretaker-pg-cron-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

const job = (was: string) => found.jobs.find((one) => one.was === was)
const left = (was: string) => found.left.find((one) => one.was === was)?.reason

/** The printed lines as a policy file that Node loads. */
async function load(lines: string): Promise<Policy> {
  const config = new URL('../../../lib/config/index.ts', import.meta.url).href
  const file = join(folder, `policy-${Math.random()}.ts`)
  await writeFile(
    file,
    `import { defineConfig } from '${config}'\nexport default defineConfig({\n  app: { name: 'Imported' },\n${lines}\n})\n`,
  )
  return ((await import(pathToFileURL(file).href)) as { default: Policy }).default
}

describe('the lines that replace pg_cron', () => {
  it('are TypeScript that defineConfig accepts, and say what was read', async () => {
    const policy = await load(policyLines(found))
    expect(policy.retention).toEqual(found.retention)
    expect(Object.entries(policy.jobs ?? {})).toEqual(
      found.jobs.map(({ name, schedule, steps }) => [name, { ...(schedule === null ? {} : { schedule }), steps }]),
    )
    expect(jobs(policy).filter(({ name }) => policy.jobs?.[name] !== undefined)).toHaveLength(found.jobs.length)
  })

  it('are printed by the command, which changes nothing', { timeout: 60_000 }, async () => {
    const config = join(folder, 'empty.config.ts')
    await writeFile(config, `export default { app: { name: 'Empty' }, jobs: { full: { steps: [{ sql: 'select 1' }] } } }`)
    const ended = await caretaker(['schedules', 'import', '--database-url', test.url, '--config', config], { cwd: folder })
    expect(ended.code).toBe(0)
    expect(ended.stdout).toContain("'daily-maintenance': {")
    expect(ended.stdout).toContain('// the policy has a job of this name already')
    expect(ended.stdout).toMatch(/^\/\/ 19 jobs and 7 retention rules; 4 left out\./)
    await load(ended.stdout)
  })
})

describe('a command', () => {
  it('of a block becomes its steps, and what never worked is said', () => {
    expect(job('daily-maintenance')).toMatchObject({
      schedule: '0 2 * * *',
      steps: [{ vacuum: ['session_logs', 'error_logs'] }, { analyze: 'all' }, { retention: ['spark_cache', 'error_logs'] }],
      warnings: [
        expect.stringMatching(/PL\/pgSQL and no SQL/),
        expect.stringMatching(/VACUUM cannot run in a string of several statements/),
        expect.stringMatching(/INSERT and then DELETE .* loses .*error_logs/),
      ],
    })
    expect(job('weekly-optimization')?.steps).toEqual([{ reindex: ['idx_session_logs_user_id'] }, { analyze: 'all' }])
    expect(job('weekly-optimization')?.warnings.join()).toMatch(/CONCURRENTLY cannot run in a string/)
    expect(job('Monthly lifecycle')).toMatchObject({ name: 'monthly-lifecycle', steps: [{ retention: ['session_logs', 'feedback_logs'] }] })
  })

  it('that deletes, moves or empties old rows becomes a rule', () => {
    expect(found.retention).toEqual([
      { table: 'spark_cache', where: 'expires_at < NOW()', action: 'purge' },
      { table: 'error_logs', column: 'created_at', olderThan: '30 days', action: { archiveTo: 'error_logs_archive' } },
      { table: 'session_logs', column: 'created_at', olderThan: '24 months', action: 'purge' },
      {
        table: 'feedback_logs',
        column: 'created_at',
        olderThan: '12 months',
        action: { anonymise: { comments: '[ANONYMIZED]' } },
        mark: 'anonymized',
      },
      {
        name: 'purge-errors-error_logs',
        table: 'error_logs',
        column: 'created_at',
        olderThan: '7 days',
        where: 'message is not null',
        action: 'purge',
      },
      // Too young for a rule by age alone.
      { name: 'short-lived-spark_cache', table: 'spark_cache', where: "expires_at < now() - interval '1 hour'", action: 'purge' },
      {
        name: 'other-way-error_logs',
        table: 'error_logs',
        column: 'created_at',
        olderThan: '90 days',
        action: { archiveTo: 'error_logs_archive' },
      },
    ])
  })

  it('that maintains becomes the step of that name', () => {
    expect(job('refresh-daily-metrics')?.steps).toEqual([{ refresh: ['daily_metrics'] }])
    expect(job('table index')?.steps).toEqual([{ reindex: [{ table: 'session_logs' }] }])
    expect(job('full')).toMatchObject({
      steps: [{ vacuum: ['session_logs', 'error_logs'] }],
      warnings: [expect.stringMatching(/VACUUM FULL/)],
    })
    expect(job('nightly-vacuum')?.steps).toEqual([{ vacuum: expect.arrayContaining(['session_logs', 'spark_cache', 'daily_metrics']) }])
  })

  it('that is anything else stays as it is', () => {
    expect(job('job 5')).toMatchObject({ name: 'cron-5', steps: [{ sql: 'select close_stale_sessions()' }] })
    // A built-in job has the name.
    expect(job('backup')).toMatchObject({ name: 'backup-2', steps: [{ sql: `select 'it''s "a"\nsecond \${line} \\ \`tick\`'` }] })
    expect(job('hourly')?.warnings.join()).toMatch(/procedure that commits/)
    expect(job('remote')?.warnings.join()).toMatch(/dblink.*role of Caretaker/)
    expect(job('as another')?.warnings.join()).toMatch(/ran as reporting/)
  })

  it('that cannot be a step is left out, with what to do', () => {
    expect(left('concurrent')).toMatch(/cannot run in a transaction/)
    expect(left('history')).toMatch(/housekeeping/)
    expect(left('elsewhere')).toMatch(/database "another"/)
    expect(left('call edge')).toMatch(/looks like a key/)
    expect(JSON.stringify(found)).not.toContain('eyJ')
  })
})

describe('a schedule', () => {
  it('means here what it meant there', () => {
    expect(job('month end')?.schedule).toBe('0 0 L * *')
    expect(job('every other monday')?.schedule).toBe('0 0 */2 * +1')
    expect(job('hourly')?.schedule).toBe('0 * * * *')
    expect(job('short lived')).toMatchObject({ schedule: '* * * * *', warnings: [expect.stringMatching(/every 30 seconds/)] })
    expect(job('at boot')).toMatchObject({ schedule: null, warnings: [expect.stringMatching(/@reboot/)] })
    expect(job('paused')).toMatchObject({ schedule: null, warnings: [expect.stringMatching(/switched off.*0 11/)] })
  })

  it("is in pg_cron's own time zone, where it has one", async () => {
    const db = openDatabase({ sessionUrl: `${test.url}?options=-c%20cron.timezone%3DEurope/Berlin`, maxConnections: 1 })
    const there = await importPgCron(testContext(db), builtInNames)
    await db.close()
    expect(there.jobs[0]?.schedule).toEqual({ cron: '0 2 * * *', timezone: 'Europe/Berlin' })
    expect(jobs(await load(policyLines(there))).find(({ name }) => name === 'hourly')?.schedule).toMatchObject({
      timezone: 'Europe/Berlin',
    })
  })
})

describe('a database', () => {
  it('without pg_cron is told so', async () => {
    const bare = await createTestDatabase({ template: 'template0' })
    await expect(importPgCron(testContext(bare.db), [])).rejects.toMatchObject({
      code: 'not_found',
      detail: expect.stringMatching(/no schema cron/),
    })
    await bare.db.execute('create schema cron')
    await expect(importPgCron(testContext(bare.db), [])).rejects.toMatchObject({
      code: 'not_found',
      detail: expect.stringMatching(/cron\.job/),
    })
    await bare.drop()
  })

  it('whose jobs the role may not see says which grant is missing, and which it does see', async () => {
    const role = `importer_${test.name}`
    await test.db.execute(`create role ${role} login password 'importer'`)
    const url = new URL(test.url)
    url.username = role
    url.password = 'importer'
    const db = openDatabase({ sessionUrl: url.href, maxConnections: 1 })
    try {
      await expect(importPgCron(testContext(db), [])).rejects.toMatchObject({
        code: 'forbidden',
        detail: expect.stringContaining(`to ${role}`),
      })
      await test.db.execute(`grant usage on schema cron to ${role}; grant select on cron.job to ${role}`)
      const seen = await importPgCron(testContext(db), [])
      expect(seen).toMatchObject({ jobs: [], warnings: [expect.stringMatching(/Only the jobs/)] })
    } finally {
      await db.close()
      await test.db.execute(`drop owned by ${role}; drop role ${role}`)
    }
  })
})

describe('whatever stands in cron.job', () => {
  it('gives lines that can be loaded', async () => {
    const policy = (lines: string) => defineConfig(new Function(`return { app: { name: 'x' }, ${lines}\n}`)() as PolicyInput)
    const { default: fc } = await import('../../support/fast-check.ts')
    const words = [
      'begin',
      'end',
      ';',
      'vacuum',
      'analyze',
      'delete from',
      'update',
      'set',
      'where',
      'x',
      '"odd name"',
      "'it''s'",
      '$$',
      '$a$',
      '(',
      ')',
    ]
    words.push(
      'now() - interval',
      "'30 days'",
      '<',
      'and',
      'or',
      '--\n',
      '/*',
      '*/',
      'with m as (',
      'returning *',
      'insert into',
      'select * from',
      '`',
      '${',
    )
    words.push(
      'do',
      'reindex table',
      'refresh materialized view',
      'call',
      '\\',
      '__proto__',
      ',',
      '.',
      '=',
      'true',
      "E'\\'",
      'commit',
      '\u2028',
    )
    const command = fc
      .array(fc.oneof(fc.constantFrom(...words), fc.string({ maxLength: 6 })), { maxLength: 14 })
      .map((list) => list.join(' '))
    const schedule = fc.oneof(
      fc.constantFrom('0 0 $ * *', '5 seconds', '@daily', '@reboot', '* * * * *', '61 * * * *', '0 0 */2 * MON'),
      fc.string(),
    )
    await fc.assert(
      fc.asyncProperty(fc.array(fc.record({ command, schedule, jobname: fc.option(fc.string()) }), { maxLength: 4 }), async (rows) => {
        const db = {
          ...test.db,
          query: async (sql: string, params?: readonly unknown[]) =>
            sql.includes('from cron.job)')
              ? rows.map((row, index) => ({
                  ...row,
                  id: index + 1,
                  name: row.jobname,
                  host: '',
                  database: test.name,
                  username: 'postgres',
                  active: true,
                }))
              : test.db.query(sql, params),
        } as typeof test.db
        const read = await importPgCron(testContext(db), builtInNames)
        const loaded = policy(policyLines(read))
        expect(Object.keys(loaded.jobs ?? {}).sort()).toEqual(read.jobs.map(({ name }) => name).sort())
        expect(loaded.retention ?? []).toEqual(read.retention)
        jobs(loaded)
      }),
      { numRuns: 300 },
    )
  })
})
