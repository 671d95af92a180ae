import { beforeAll, describe, expect, it } from 'vitest'
import policy from '../../examples/catchup/caretaker.config.ts'
import { defineConfig, type Policy } from '../../lib/config/index.ts'
import { eraseSubject, exportSubject } from '../../lib/gdpr/index.ts'
import { applyMigrations } from '../../lib/platform/migrations.ts'
import { installExample } from '../../local/example.ts'
import { testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'
import { collect } from './collect.ts'
import { unzip } from './export/unzip.ts'
import { tableContents } from './shop.ts'

/** What of each table is one person's, written by hand from the schema. */
const mine: Record<string, string> = {
  'auth.users': 'id = $1::uuid',
  'auth.identities': 'user_id = $1::uuid',
  'public.users': 'id = $1::uuid',
  'public.contacts': 'user_id = $1::uuid',
  'public.groups': 'user_id = $1::uuid',
  'public.contact_groups': `contact_id in (select id from contacts where user_id = $1::uuid) or group_id in (select id from groups where user_id = $1::uuid)`,
  'public.tags': 'contact_id in (select id from contacts where user_id = $1::uuid)',
  'public.suggestions': 'user_id = $1::uuid or contact_id in (select id from contacts where user_id = $1::uuid)',
  'public.voice_notes': 'user_id = $1::uuid',
  'public.interaction_logs': 'user_id = $1::uuid or contact_id in (select id from contacts where user_id = $1::uuid)',
  'public.availability_preferences': 'user_id = $1::uuid',
  'public.notification_preferences': 'user_id = $1::uuid',
  'public.google_accounts': 'user_id = $1::uuid',
  'public.calendar_events': 'user_id = $1::uuid',
  'public.notifications': 'user_id = $1::uuid',
  'public.sms_replies': 'user_id = $1::uuid',
}
/** Described in CatchUp's policy only: nothing in the schema leads from one to the other. */
const described: Record<string, string> = {
  'public.login_attempts': 'lower(email) = (select lower(email) from users where id = $1::uuid)',
}

describe.each([
  ['its own policy', policy, { ...mine, ...described, 'public.audit_logs': 'user_id = $1::uuid' }, ['public.audit_logs']],
  [
    'a policy that names the table of people and nothing else',
    defineConfig({ app: { name: 'Unknown' }, gdpr: { subject: { table: 'users' }, residue: false } }),
    { ...mine, 'public.audit_logs': 'user_id = $1::uuid' },
    [],
  ],
] as [string, Policy, Record<string, string>, string[]][])('CatchUp under %s', (_which, config, queries, stays) => {
  const test = useTestDatabase({ template: 'template0' })
  let id = ''

  beforeAll(async () => {
    await installExample(test.db, 'catchup')
    await applyMigrations(test.db)
    const [somebody] = await test.db.query<{ id: string }>(
      'select u.id::text from users u join sms_replies s on s.user_id = u.id join audit_logs a on a.user_id = u.id join google_accounts g on g.user_id = u.id group by 1 order by count(*) desc limit 1',
    )
    id = somebody?.id ?? ''
  })

  const rowsOf = (where: (condition: string) => string) =>
    Promise.all(
      Object.entries(queries).map(async ([table, condition]) => {
        const rows = await test.db.query<{ row: string }>(`select t::text as row from ${table} t where ${where(condition)} order by 1`, [
          id,
        ])
        return [table, rows.map(({ row }) => row)] as const
      }),
    ).then((entries) => Object.fromEntries(entries))

  it('exports every row that the hand-written queries find', async () => {
    const archive = collect()
    const { tables } = await exportSubject(testContext(test.db, { config }), { subject: id, out: archive.stream })
    const wanted = await rowsOf((condition) => condition)
    expect(Object.fromEntries(tables.filter(({ table }) => table in wanted).map(({ table, rows }) => [table, rows]))).toEqual(
      Object.fromEntries(Object.entries(wanted).map(([table, rows]) => [table, rows.length])),
    )
    // Nothing is found in tables that the queries do not name.
    expect(tables.filter(({ table, rows }) => !(table in wanted) && rows > 0)).toEqual([])
    expect(Object.values(wanted).filter((rows) => rows.length > 0).length).toBeGreaterThan(12)
    const contacts = JSON.parse((await unzip(archive.bytes())).get('data/public.contacts.json')?.toString() ?? '[]') as {
      user_id: string
    }[]
    expect(contacts.every((row) => row.user_id === id)).toBe(true)
  })

  it('erases them all, and no other row of the database changes', async () => {
    const before = await tableContents(test.db)
    const others = await rowsOf((condition) => `not coalesce((${condition}), false)`)
    const outcome = await eraseSubject(testContext(test.db, { config }), { subject: id })
    const left = await rowsOf((condition) => condition)
    expect(Object.entries(left).filter(([, rows]) => rows.length > 0)).toEqual([])
    const after = await tableContents(test.db)
    const lost = (rows: string[], now: readonly string[]) => {
      const there = new Set(now)
      return rows.filter((row) => !there.has(row))
    }
    for (const [table, rows] of Object.entries(others)) {
      const now = (await test.db.query<{ row: string }>(`select t::text as row from ${table} t`)).map(({ row }) => row)
      // What was made anonymous is there still, and names nobody.
      expect([table, lost(rows, now), stays.includes(table) ? [] : lost(now, rows)]).toEqual([table, [], []])
    }
    for (const [table, rows] of Object.entries(before)) {
      // A partition's rows are its table's.
      if (table in queries || /^public\.suggestions_p\d$/.test(table)) continue
      expect([table, lost(rows, after[table] ?? []), lost(after[table] ?? [], rows)]).toEqual([table, [], []])
    }
    // Files are deleted through the Storage API, which is not configured here; the receipt says so.
    delete after['storage.objects']
    for (const [table, rows] of Object.entries(after)) expect([table, rows.filter((row) => row.includes(id))]).toEqual([table, []])
    if (config.gdpr?.residue === false) return
    // The address book of somebody else is theirs; that the person stands in it is told.
    const found = outcome.status === 'erased' ? (outcome.receipt.residue?.found ?? []) : []
    expect(found.map(({ table }) => table)).toContain('public.contacts')
  })
})
