import { beforeAll, describe, expect, it } from 'vitest'
import { fullPlan } from '../../cli/commands/plan.ts'
import { jobs } from '../../lib/catalog.ts'
import { lintMap, readCatalogue } from '../../lib/gdpr/index.ts'
import { qualified } from '../../lib/platform/db.ts'
import { readEnv } from '../../lib/platform/env.ts'
import { applyMigrations } from '../../lib/platform/migrations.ts'
import { exampleFile, examples, firstPerson, installExample } from '../../local/example.ts'
import { testContext } from '../support/context.ts'
import { createTestDatabase, useTestDatabase } from '../support/database.ts'
import { policies, schedulesOf } from './policies.ts'

it('has a policy for every example', () => {
  expect(Object.keys(policies)).toEqual([...examples])
})

describe.each(Object.entries(policies))('the example %s', (name, policy) => {
  const test = useTestDatabase({ template: 'template0' })
  let rows: Record<string, number>

  beforeAll(async () => {
    rows = await installExample(test.db, name, { rows: 2_000 })
    await applyMigrations(test.db)
  })

  it("runs its document's jobs under their own names, at their own times", () => {
    const found = jobs(policy).map((job) => [job.name, job.schedule?.cron])
    for (const planned of Object.entries(schedulesOf[name] ?? {})) expect(found).toContainEqual(planned)
  })

  it('fits its database: the plan finds nothing to complain of', async () => {
    const planned = await fullPlan(
      testContext(test.db, { config: policy, env: readEnv({ APP_WEBHOOK_SECRET: `whsec_${'A'.repeat(44)}` }) }),
      jobs(policy).filter((job) => Object.hasOwn(policy.jobs ?? {}, job.name)),
    )
    expect(planned.issues).toEqual([])
    const warnings = planned.jobs.flatMap((job) => job.lines.flatMap((line) => line.warnings ?? []))
    // That rows hang from others is as it should be; that they are found without an index is not.
    expect(
      warnings.filter((warning) => !/refer to it .* (are deleted as well, beside the count|lose the reference)$/.test(warning)),
    ).toEqual([])
  })

  it('leaves nothing of a person undescribed', async () => {
    if (policy.gdpr === undefined) throw new Error('the policy names no subject')
    expect(lintMap(await readCatalogue(test.db), policy.gdpr)).toEqual([])
  })

  it('has work for every retention rule, and rows that it must leave alone', async () => {
    for (const rule of policy.retention ?? []) {
      const age = rule.column === undefined ? [] : [`${rule.column} < now() - interval '${rule.olderThan}'`]
      const due = [...age, ...(rule.where === undefined ? [] : [`(${rule.where})`])].join(' and ')
      const [row] = await test.db.query<{ due: number; kept: number }>(
        `select count(*) filter (where ${due})::int as due, count(*) filter (where (${due}) is not true)::int as kept from ${rule.table}`,
      )
      expect([rule.name, (row?.due ?? 0) > 0, (row?.kept ?? 0) > 0]).toEqual([rule.name, true, true])
    }
  })

  it('shows each person their own rows, and nobody those of others', async () => {
    const open = await test.db.query(
      `select schemaname, tablename from pg_tables where schemaname in ('public', 'auth', 'storage') and not rowsecurity`,
    )
    expect(open).toEqual([])
    const owned = await test.db.query<{ name: string; policies: number }>(
      `select c.relname as name, (select count(*)::int from pg_policy p where p.polrelid = c.oid) as policies
       from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'user_id'
       where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition`,
    )
    const seen = { own: 0, anonymous: 0 }
    for (const { name: table, policies: count } of owned) {
      const sql = qualified('public', table)
      const [whole] = await test.db.query<{ own: number }>(`select count(*) filter (where user_id = $1::uuid)::int as own from ${sql}`, [
        firstPerson,
      ])
      const [own, anonymous] = await test.db.transaction(async (tx) => {
        await tx.execute(`select set_config('request.jwt.claims', $1, true)`, [JSON.stringify({ sub: firstPerson, role: 'authenticated' })])
        await tx.execute('set local role authenticated')
        const mine = await tx.query<{ own: number; others: number }>(
          `select count(*) filter (where user_id = $1::uuid)::int as own, count(*) filter (where user_id is distinct from $1::uuid)::int as others from ${sql}`,
          [firstPerson],
        )
        await tx.execute('set local role anon')
        return [mine[0], (await tx.query(`select from ${sql} limit 1`)).length]
      })
      expect([table, own?.others, anonymous]).toEqual([table, 0, 0])
      expect([table, [0, whole?.own].includes(own?.own)]).toEqual([table, true])
      // Where there is a policy for reading it shows what is the person's; a table without one shows nothing.
      if (count === 0) expect([table, own?.own]).toEqual([table, 0])
      seen.own += own?.own ?? 0
    }
    expect(seen.own).toBeGreaterThan(3)
  })

  it('has files of the sizes that Storage lists, and its first person', async () => {
    const files = await test.db.query<{ name: string; bytes: number }>(
      `select name, (metadata ->> 'size')::int as bytes from storage.objects`,
    )
    expect(files.length > 0).toBe((policy.backup?.buckets ?? []).length > 0)
    for (const file of files) expect(exampleFile(file).byteLength).toBe(file.bytes)
    const table = policy.gdpr?.subject.table ?? ''
    expect(await test.db.query(`select id from ${table} where id = $1::uuid`, [firstPerson])).toHaveLength(1)
  })

  it('gives the same rows each time, as many as asked for', async () => {
    const own = Object.entries(rows).filter(([table]) => !table.includes('.'))
    expect(own.filter(([, count]) => count === 0)).toEqual([])
    const sum = own.reduce((total, [, count]) => total + count, 0)
    expect(sum).toBeGreaterThan(1_600)
    expect(sum).toBeLessThan(4_500)
    const again = await createTestDatabase({ template: 'template0' })
    try {
      expect(await installExample(again.db, name, { rows: 2_000 })).toEqual(rows)
      for (const [table] of own) {
        // Whatever is not a time: those are told back from now.
        const [digest] = await test.db.query<{ sql: string }>(
          `select format('select md5(string_agg(r::text, '','' order by r::text)) as digest from (select %s from %s) r', string_agg(quote_ident(attname), ','), $1::text) as sql
           from pg_attribute where attrelid = $1::regclass and attnum > 0 and atttypid not in ('timestamptz'::regtype, 'date'::regtype)`,
          [table],
        )
        expect([table, await again.db.query(digest?.sql ?? '')]).toEqual([table, await test.db.query(digest?.sql ?? '')])
      }
    } finally {
      await again.drop()
    }
  })
})
