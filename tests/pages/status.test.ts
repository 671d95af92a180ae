import { describe, expect, it } from 'vitest'
import { canonicalName, type PolicyInput } from '../../lib/config/index.ts'
import { recordLooks } from '../../lib/health/history/record.ts'
import { rollUpHealth } from '../../lib/health/history/roll-up.ts'
import type { Look } from '../../lib/health/history/status.ts'
import { scheduleMaintenance } from '../../lib/health/index.ts'
import type { Context } from '../../lib/platform/context.ts'
import { openDatabase } from '../../lib/platform/db.ts'
import { status } from '../../lib/routes/status.ts'
import { dayState } from '../../pages/status/model.ts'
import { checkTitle } from '../../pages/status/names.ts'
import { percentText, uptimeText } from '../../pages/status/words.ts'
import { healthContext } from '../health/support.ts'
import { insertSyntheticYear } from '../health/synthetic-history.ts'
import { useTestDatabase } from '../support/database.ts'
import { testServer } from '../support/serve.ts'

const test = useTestDatabase()
const page = { kind: 'url', url: 'https://shop.test/' }
const checks = { database: {}, shop: page, 'supabase-auth': {}, rls: {}, backup: {} }
const policy = (more: Partial<PolicyInput> = {}): Partial<PolicyInput> => ({ app: { name: 'Shop & Co' }, health: { checks }, ...more })
const env = { PUBLIC_URL: 'https://status.shop.test' }

const look = (check: string, state: Look['status'], cause: Look['cause'] = null): Look => ({ check, status: state, cause, durationMs: 12 })

async function seen(more: Partial<PolicyInput> = {}, looks: Look[] = allUp) {
  const ctx = healthContext(test.db, { policy: policy(more), env })
  await recordLooks(ctx, looks)
  ctx.clock.advance(60_000)
  await rollUpHealth(ctx)
  return { ctx, ...asker(ctx) }
}

const allUp = [
  look('database', 'up'),
  look('shop', 'up'),
  look('supabase-auth', 'unknown', 'not_configured'),
  look('rls', 'up'),
  look('', 'up'),
]

function asker(ctx: Context) {
  const server = testServer(status(), { ...ctx, db: Object.assign(Object.create(ctx.db) as typeof ctx.db, {}) })
  const text = async (path: string) => (await server.request(path)).text()
  const json = async (path: string) => (await (await server.request(path)).json()) as Record<string, never>
  return { server, text, json }
}

async function incident(ctx: Context, given: { title: string; component: string; resolved?: boolean; open?: boolean }) {
  const at = ctx.clock.now()
  const [row] = await test.db.query<{ id: string }>(
    `insert into caretaker.incidents (environment, number, title, public_title, component, severity, state, opened_at, opened_by, public, resolved_at)
     values ($1, (select count(*) + 1 from caretaker.incidents), 'internal words', $2, $3, 'P1', $4, $5::timestamptz, '{}', true, $6::timestamptz) returning id`,
    [
      ctx.env.CARETAKER_ENVIRONMENT,
      given.title,
      given.component,
      given.resolved === true ? 'resolved' : 'identified',
      at,
      given.resolved === true ? at : null,
    ],
  )
  await test.db.execute(
    `insert into caretaker.incident_events (incident, at, kind, actor, detail, public, body) values
       ($1, $2, 'update', '{}', '{"to":"identified"}', true, 'We know <why> & mend it.'), ($1, $2, 'note', '{}', '{}', false, 'a secret note')`,
    [row?.id, at],
  )
  return row?.id ?? ''
}

describe('the page', () => {
  it('says in one sentence how things are, and names what people notice', async () => {
    const { text, server } = await seen()
    const response = await server.request('/status')
    expect(response.headers.get('cache-control')).toContain('s-maxage=30')
    expect(response.headers.get('content-security-policy')).toContain("default-src 'none'")
    const body = await response.text()
    expect(body).toContain('All systems operational')
    expect(body).toContain('Shop &amp; Co')
    expect(body).not.toMatch(/<script|Row level security|Backup|sign-in/)
    expect(await text('/status/shop')).toContain('100 % uptime')
  })

  it.each([
    ['shop', 'timeout', 'minor', 'Shop is not working', 'did not answer in time'],
    ['database', 'refused', 'major', 'Major outage', 'refused the connection'],
  ] as const)('says that %s is down, and why unless the policy keeps it', async (check, cause, indicator, words, why) => {
    const looks = [look(check, 'down', cause), look('', check === 'database' ? 'down' : 'up')]
    const { text, json } = await seen({}, looks)
    const body = await text('/status')
    expect(body).toContain(words)
    expect(body).toContain(why)
    expect(await json('/api/v2/status.json')).toMatchObject({ status: { indicator, description: words } })
    const quiet = await seen({ status: { hideCauses: true } }, looks)
    expect(await quiet.text('/status')).not.toContain(why)
    expect(await quiet.text('/status.json')).not.toContain(why)
  })

  it('shows what the policy says, as it calls it and where it puts it', async () => {
    const { json, text } = await seen({
      status: {
        title: 'How we are',
        checks: ['shop', 'rls', 'database'],
        names: { rls: 'Walls' },
        groups: { Inside: ['database', 'rls'] },
        support: 'https://shop.test/help',
      },
    })
    const summary = await json('/api/v2/summary.json')
    expect((summary.components as unknown as { name: string }[]).map(({ name }) => name)).toEqual(['Shop', 'Walls', 'Database', 'Inside'])
    expect(await text('/status')).toMatch(/How we are[\s\S]*<h2 id="g1">Inside<\/h2>[\s\S]*Walls[\s\S]*https:\/\/shop\.test\/help/)
  })

  it('tells of what nobody looked at lately that nothing is known', async () => {
    const { ctx, text } = await seen()
    ctx.clock.advance(600_000)
    expect(await text('/status')).toMatch(/Nothing current is known[\s\S]*No data/)
  })

  it('answers 404 for what is not public, and for everything where the policy wants no page', async () => {
    const { server } = await seen()
    for (const path of ['/status/rls', '/status/nothing', '/api/v2/nothing.json'])
      expect([path, (await server.request(path)).status]).toEqual([path, 404])
    expect((await server.request('/status/rls')).headers.get('content-type')).toContain('text/html')
    const closed = await seen({ status: { public: false } })
    for (const path of ['/status', '/status.json', '/status/feed.atom', '/api/v2/summary.json'])
      expect((await closed.server.request(path)).status).toBe(404)
  })

  it('is there without a database, with what a look just now has found', async () => {
    const db = openDatabase({ sessionUrl: 'postgres://someone:hunter2hunter2@127.0.0.1:1/none' })
    const ctx = healthContext(db, {
      policy: { ...policy(), health: { checks: { database: { timeoutMs: 300 }, shop: page } } },
      overrides: { fetch: () => Promise.resolve(new Response('x')) },
    })
    const { server } = asker(ctx)
    const response = await server.request('/status')
    expect([response.status, response.headers.get('cache-control')]).toEqual([200, 'no-store'])
    const body = await response.text()
    expect(body).toMatch(/Major outage[\s\S]*history cannot be read[\s\S]*Database[\s\S]*Not working[\s\S]*Operational/)
    expect(body).not.toMatch(/hunter2|127\.0\.0\.1/)
    // What cannot be read is not none.
    expect(body).not.toContain('Past incidents')
    const one = await (await server.request('/status/shop')).text()
    expect(one).toContain('The history cannot be read at the moment.')
    expect(one).not.toMatch(/None in|Nothing was measured/)
    for (const path of [
      '/status/feed.atom',
      '/api/v2/incidents.json',
      '/api/v2/incidents/unresolved.json',
      '/api/v2/scheduled-maintenances.json',
    ])
      expect([path, (await server.request(path)).status]).toEqual([path, 503])
    expect((await server.request('/api/v2/summary.json')).status).toBe(200)
    await db.close()
  })
})

describe('incidents and maintenance', () => {
  it('are on the page, in the feed and in the JSON, without what is internal', async () => {
    const { ctx } = await seen()
    await incident(ctx, { title: 'Orders <fail>', component: 'shop' })
    await incident(ctx, { title: 'Old trouble', component: 'rls', resolved: true })
    const window = await scheduleMaintenance(ctx, {
      title: 'New disks',
      body: 'Some minutes.',
      components: ['shop'],
      startsAt: new Date(ctx.clock.now().getTime() + 3_600_000),
      endsAt: new Date(ctx.clock.now().getTime() + 7_200_000),
    })
    const { text, json } = asker(ctx)
    const body = await text('/status')
    expect(body).toMatch(/Orders &lt;fail&gt;[\s\S]*We know &lt;why&gt; &amp; mend it\.[\s\S]*New disks[\s\S]*Planned[\s\S]*Old trouble/)
    const feed = await text('/status/feed.atom')
    expect(feed).toMatch(/^<\?xml version="1.0"[\s\S]*<title>Orders &lt;fail&gt; \(identified\)<\/title>/)
    expect(feed).toContain('&lt;p&gt;2026-11-21T12:01:00.000Z (identified): We know &amp;lt;why&amp;gt; &amp;amp; mend it.&lt;/p&gt;')
    expect(feed).toContain('https://status.shop.test/status/feed.atom')
    const summary = await json('/api/v2/summary.json')
    expect(summary).toMatchObject({
      page: { name: 'Shop & Co', url: 'https://status.shop.test/status', time_zone: 'Etc/UTC' },
      incidents: [
        { name: 'Orders <fail>', status: 'identified', components: [{ name: 'Shop' }], incident_updates: [{ status: 'identified' }] },
      ],
      scheduled_maintenances: [{ name: 'New disks', status: 'scheduled', scheduled_for: window.startsAt.toISOString() }],
      components: [{ name: 'Database', status: 'operational' }, { name: 'Shop' }],
    })
    expect((await json('/api/v2/incidents.json')).incidents).toHaveLength(2)
    expect((await json('/api/v2/incidents/unresolved.json')).incidents).toHaveLength(1)
    expect((await json('/api/v2/scheduled-maintenances/upcoming.json')).scheduled_maintenances).toHaveLength(1)
    for (const path of ['/status', '/status.json', '/status/feed.atom', '/api/v2/summary.json', '/api/v2/incidents.json'])
      expect(await text(path)).not.toMatch(/secret note|internal words|"rls"/)
  })

  it('point from a part to the whole, in the page and in the JSON', async () => {
    const { ctx } = await seen()
    const whole = await incident(ctx, { title: 'Orders fail', component: 'shop' })
    const part = await incident(ctx, { title: 'Mails are late', component: 'shop', resolved: true })
    await test.db.execute(
      'update caretaker.incidents p set part_of = w.number from caretaker.incidents w where p.id = $1::uuid and w.id = $2::uuid',
      [part, whole],
    )
    await test.db.execute(
      `insert into caretaker.incident_events (incident, at, kind, actor, detail, public, body)
       values ($1, $2::timestamptz, 'resolved', '{}', '{}', true, 'We are working on the other one.')`,
      [part, ctx.clock.now()],
    )
    const { text, json } = asker(ctx)
    const anchor = `i${whole.slice(0, 8)}`
    expect(await text('/status')).toMatch(
      new RegExp(`id="${anchor}"[\\s\\S]*Mails are late.*<a href="#${anchor}">.*Part of another incident`),
    )
    expect(await text('/status/feed.atom')).toContain('Mails are late (part of another incident)')
    expect(await text('/status')).toMatch(/<strong>Part of another incident<\/strong>[^\n]*We are working on the other one/)
    expect(await text('/status/feed.atom')).toContain('(part of another incident): We are working on the other one.')
    const { incidents } = (await json('/status.json')) as unknown as { incidents: { id: string; title: string; partOf: string | null }[] }
    const ids = Object.fromEntries(incidents.map(({ title, id }) => [title, id]))
    expect(Object.fromEntries(incidents.map(({ title, partOf }) => [title, partOf]))).toEqual({
      'Orders fail': null,
      'Mails are late': ids['Orders fail'],
    })
  })

  it('show the newest updates of a long one, line by line, and lead to the rest', async () => {
    const { ctx } = await seen()
    const id = await incident(ctx, { title: 'A long one', component: 'shop' })
    await test.db.execute(
      `insert into caretaker.incident_events (incident, at, kind, actor, detail, public, body)
       select $1, $2::timestamptz + n * interval '1 second', 'update', '{}', '{}', true, 'Told ' || n || E'.\nMore.' from generate_series(1, 30) n`,
      [id, ctx.clock.now()],
    )
    const body = await asker(ctx).text('/status')
    const told = [...body.matchAll(/<div class="said">Told (\d+)\.\nMore\.</g)].map(([, n]) => Number(n))
    expect(told).toEqual(Array.from({ length: 20 }, (_, index) => 30 - index))
    expect(body).toContain('11 earlier ones in the feed')
    await test.db.execute('delete from caretaker.incidents where id = $1', [id])
  })

  it('have in /api/v2 every field that Statuspage has, and no other value of a status', async () => {
    const { ctx } = await seen({ status: { groups: { Shop: ['shop'] } } })
    await incident(ctx, { title: 'Orders', component: 'shop' })
    await scheduleMaintenance(ctx, { title: 'Disks', body: 'Words.', endsAt: new Date(ctx.clock.now().getTime() + 3_600_000) })
    const { json } = asker(ctx)
    const summary = (await json('/api/v2/summary.json')) as unknown as Record<string, Record<string, unknown>[]>
    const fields = (one: object | undefined) => Object.keys(one ?? {}).sort()
    const component = [
      'created_at',
      'description',
      'group',
      'group_id',
      'id',
      'name',
      'only_show_if_degraded',
      'page_id',
      'position',
      'showcase',
      'start_date',
      'status',
      'updated_at',
    ]
    for (const one of summary.components ?? []) {
      expect(fields(one).filter((name) => name !== 'components')).toEqual(component)
      expect(['operational', 'degraded_performance', 'partial_outage', 'major_outage', 'under_maintenance']).toContain(one.status)
      expect(one.id).toMatch(/^[0-9a-f]{12}$/)
    }
    const [group] = (summary.components ?? []).filter((one) => one.group === true)
    expect(group).toMatchObject({
      name: 'Shop',
      components: [summary.components?.find(({ name, group_id: in_ }) => name === 'Shop' && in_ !== null)?.id],
    })
    const told = [
      'components',
      'created_at',
      'id',
      'impact',
      'incident_updates',
      'monitoring_at',
      'name',
      'page_id',
      'reminder_intervals',
      'resolved_at',
      'shortlink',
      'started_at',
      'status',
      'updated_at',
    ]
    expect(fields(summary.incidents?.[0])).toEqual(told)
    expect(fields(summary.scheduled_maintenances?.[0])).toEqual([...told, 'scheduled_for', 'scheduled_until'].sort())
    for (const one of [...(summary.incidents ?? []), ...(summary.scheduled_maintenances ?? [])])
      expect(fields((one.incident_updates as object[])[0])).toEqual([
        'affected_components',
        'body',
        'created_at',
        'custom_tweet',
        'deliver_notifications',
        'display_at',
        'id',
        'incident_id',
        'status',
        'tweet_id',
        'updated_at',
      ])
    expect((await json('/api/v2/scheduled-maintenances/active.json')).scheduled_maintenances).toHaveLength(1)
    expect((await json('/api/v2/scheduled-maintenances/upcoming.json')).scheduled_maintenances).toHaveLength(0)
    expect((await json('/api/v2/scheduled-maintenances.json')).scheduled_maintenances).toMatchObject([{ status: 'in_progress' }])
  })

  it('in progress is what the page says first, and its component is under maintenance', async () => {
    const maintenance = [{ name: 'nightly', title: 'Nightly work', from: '11:30', to: '12:30', components: ['shop'] }]
    const { text, json } = await seen({ health: { checks, maintenance } }, [
      look('shop', 'maintenance', 'refused'),
      look('database', 'up'),
      look('', 'up'),
    ])
    expect(await text('/status')).toMatch(/Maintenance in progress[\s\S]*Nightly work[\s\S]*In progress/)
    expect(await json('/api/v2/summary.json')).toMatchObject({
      status: { indicator: 'maintenance' },
      components: [{ name: 'Database' }, { name: 'Shop', status: 'under_maintenance' }],
    })
    // Of what comes again every night only the next is announced.
    expect(((await text('/status')).match(/Nightly work/g) ?? []).length).toBe(1)
  })
})

it('a year of fifty checks is one query for the history and at most 50 KB', async () => {
  const names = Array.from({ length: 50 }, (_, n) => `check-${n}`)
  const listed = Object.fromEntries(names.map((name) => [name, { kind: 'url', url: `https://${name}.test/` }]))
  const ctx = healthContext(test.db, { policy: { health: { checks: listed } } })
  await insertSyntheticYear(test.db, ctx.env.CARETAKER_ENVIRONMENT ?? '', ['', ...names].map(canonicalName), ctx.clock.now())
  const asked: string[] = []
  const counting = Object.assign(Object.create(test.db) as typeof test.db, {
    query: (sql: string, params: unknown[]) => {
      asked.push(sql)
      return test.db.query(sql, params)
    },
  })
  const server = testServer(status(), { ...ctx, db: counting as typeof test.db })
  const bodies = await Promise.all(Array.from({ length: 20 }, async () => (await server.request('/status')).text()))
  expect(asked.filter((sql) => sql.includes('health_')).length).toBe(1)
  expect(Buffer.byteLength(bodies[0] ?? '')).toBeLessThanOrEqual(50_000)
  expect(bodies[0]?.match(/aria-label="90 days/g)).toHaveLength(50)
})

describe('words', () => {
  it.each([
    [{ up: 86_400, down: 0, maintenance: 0, unknown: 0 }, 'up'],
    [{ up: 86_000, down: 400, maintenance: 0, unknown: 0 }, 'partial'],
    [{ up: 80_000, down: 3_600, maintenance: 0, unknown: 0 }, 'down'],
    [{ up: 60, down: 60, maintenance: 0, unknown: 80_000 }, 'down'],
    [{ up: 60, down: 0, maintenance: 0, unknown: 80_000 }, 'unknown'],
    [{ up: 80_000, down: 0, maintenance: 60, unknown: 0 }, 'maintenance'],
    [{ up: 0, down: 0, maintenance: 0, unknown: 86_400 }, 'unknown'],
  ])('a day of %j is %s', (seconds, state) => {
    expect(dayState({ ...seconds, p50: null, p95: null })).toBe(state)
  })

  it('never round an outage away', () => {
    expect([percentText(99.999), percentText(100), percentText(99.9), percentText(0)]).toEqual(['99.99', '100', '99.90', '0.00'])
    expect(uptimeText({ atLeast: 99.9, atMost: 99.97 })).toBe('99.90 to 99.97 % uptime')
    expect(uptimeText(null)).toBe('no data yet')
  })

  it('are those people use', () => {
    expect(['object-store', 'supabase-auth', 'n8n', 'openai', 'home_page'].map(checkTitle)).toEqual([
      'Object store',
      'Supabase sign-in',
      'n8n',
      'OpenAI',
      'Home page',
    ])
  })
})
