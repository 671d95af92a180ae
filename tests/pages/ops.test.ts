import { beforeAll, describe, expect, it } from 'vitest'
import type { Role } from '../../lib/platform/actor.ts'
import { CaretakerError } from '../../lib/platform/errors.ts'
import { readOnlyDatabase } from '../../lib/platform/read-only.ts'
import { describeApi } from '../../lib/routes/openapi-document.ts'
import { ops } from '../../lib/routes/ops.ts'
import { testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'
import { testServer } from '../support/serve.ts'
import { badDay, hostile, keyOf, type Operations, pagesOf, policy } from './operations.ts'

const test = useTestDatabase()
let day: Operations
let woken = 0

const server = () =>
  testServer(
    ops({
      wake: async () => {
        woken++
      },
    }),
    testContext(test.db, { config: policy }),
  )

const ownPage = { origin: 'http://localhost', 'sec-fetch-site': 'same-origin' }

function signIn(fields: Record<string, string>, headers: Record<string, string> = ownPage) {
  return server().request('/ops/sign-in', { method: 'POST', body: new URLSearchParams(fields), headers })
}

const cookieOf = (response: Response, name: string) =>
  response.headers
    .getSetCookie()
    .map((one) => one.split(';')[0] as string)
    .find((one) => one.startsWith(`caretaker-${name}=`))

/** A browser that is signed in as the role: reads pages, sends their forms, and follows to where they end. */
async function browser(role: Role) {
  const session = cookieOf(await signIn({ key: keyOf(role) }), 'session') ?? ''
  const { request, settled } = server()
  const get = (path: string, cookie = session) => request(path, { headers: { cookie, 'sec-fetch-site': 'same-origin' } })
  const csrf = /name="csrf" value="([\w-]+)"/.exec(await (await get('/ops')).text())?.[1] ?? ''
  const send = (path: string, fields: Record<string, string> = {}) =>
    request(path, { method: 'POST', body: new URLSearchParams({ csrf, ...fields }), headers: { cookie: session, ...ownPage } })
  /** What the page after the form says. */
  const act = async (path: string, fields: Record<string, string> = {}) => {
    const response = await send(path, fields)
    await settled()
    // What was typed comes back at once; everything else ends at another page.
    if (response.status !== 303) return { to: path, status: response.status, ...saidOn(await response.text()) }
    const to = response.headers.get('location') ?? ''
    const page = await get(to, `${session}; ${cookieOf(response, 'flash')}`)
    return { to, status: page.status, ...saidOn(await page.text()) }
  }
  return { get, send, act, session, csrf }
}

function saidOn(text: string): { said: string; tone: string; text: string } {
  const [, tone = '', markup = ''] = /<p class="flash (\w+)">(.*?)<\/p>/s.exec(text) ?? []
  return { said: unescaped(markup.replaceAll(/<[^>]*>/g, '')), tone, text }
}

function unescaped(text: string): string {
  return text.replaceAll('&lt;', '<').replaceAll('&gt;', '>').replaceAll('&quot;', '"').replaceAll('&#39;', "'").replaceAll('&amp;', '&')
}

beforeAll(async () => {
  day = await badDay(testContext(test.db, { config: policy }))
})

describe('pages', () => {
  it('show everything to an admin, and let nothing of others become markup', async () => {
    const { get } = await browser('admin')
    for (const path of pagesOf(day)) {
      const response = await get(path)
      const text = await response.text()
      expect([path, response.status]).toEqual([path, 200])
      expect([path, text.includes('<script')]).toEqual([path, false])
      expect([path, text.includes('&lt;script&gt;')]).toEqual([path, true])
      expect([path, /undefined|NaN|\[object /.exec(text.replace(/<style>.*<\/style>/, ''))?.[0]]).toEqual([path, undefined])
      // An id twice, or a label without its field, is lost on who cannot see the page.
      const ids = [...text.matchAll(/ id="([^"]+)"/g)].map(([, id]) => id)
      expect([path, ids.filter((id, index) => ids.indexOf(id) !== index)]).toEqual([path, []])
      for (const [, id] of text.matchAll(/<label for="([^"]+)"/g)) expect([path, ids]).toEqual([path, expect.arrayContaining([id])])
      expect(response.headers.get('cache-control')).toBe('no-store')
      expect(response.headers.get('content-security-policy')).toMatch(/^default-src 'none'; style-src 'sha256-/)
    }
  })

  it('say what matters: what is down, who waits, what would be lost', async () => {
    const { get } = await browser('viewer')
    const text = await (await get('/ops')).text()
    for (const said of [
      'nobody has acknowledged',
      'stripe',
      '47 minutes',
      '8 minutes',
      'the first is due in 3 days',
      '1 event, 1 message',
      'backup',
    ])
      expect(text).toContain(said)
  })

  it('say that the database is read-only, and keep what was typed for then', async () => {
    const { session, csrf } = await browser('developer')
    const readOnly = testServer(ops({ wake: async () => undefined }), testContext(readOnlyDatabase(test.db), { config: policy }))
    const send = (path: string, fields: Record<string, string>) =>
      readOnly.request(path, { method: 'POST', body: new URLSearchParams(fields), headers: { cookie: session, ...ownPage } })
    for (const [path, fields] of [
      [`/ops/incidents/${day.incident}/note`, { csrf, note: 'Written on a bad day.', once: 'full' }],
      ['/ops/sign-in', { key: keyOf('developer') }],
    ] as const) {
      const response = await send(path, fields)
      const text = await response.text()
      expect([path, response.status, text.includes('it is read-only'), text.includes('bad day')]).toEqual([
        path,
        503,
        true,
        'note' in fields,
      ])
    }
  })

  it('repeat no password that was typed into the field of the code, and say which field is wrong', async () => {
    const response = await signIn({ email: 'ada@example.com', password: 'open sesame', code: 'correct horse battery' })
    const text = await response.text()
    expect([response.status, /open sesame|correct horse/.exec(text)]).toEqual([422, null])
    expect(saidOn(text).said).toBe('Code: expected at most 12 characters.')
  })

  it('lead whoever is not signed in there and back', async () => {
    const response = await server().request('/ops/jobs?x=1')
    expect(response.status).toBe(303)
    expect(response.headers.get('location')).toBe('/ops/sign-in?to=%2Fops%2Fjobs%3Fx%3D1')
  })

  it('open from a link elsewhere, with which a strict cookie does not come', async () => {
    const response = await server().request(`/ops/incidents/${day.incident}`, { headers: { 'sec-fetch-site': 'cross-site' } })
    expect(response.status).toBe(200)
    expect(await response.text()).toContain(`<meta http-equiv="refresh" content="0;url=/ops/incidents/${day.incident}">`)
  })

  it.each([
    '/ops/nothing',
    '/ops/runs/nothing',
    '/ops/runs/00000000-0000-0000-0000-000000000000',
    '/ops/incidents/99999',
    '/ops/gdpr/nothing',
    '/ops/no/such/page/here',
  ])('are not there: %s, said in words', async (path) => {
    const response = await (await browser('admin')).get(path)
    expect(response.status).toBe(404)
    expect(response.headers.get('content-type')).toContain('text/html')
    expect(await response.text()).toContain('There is no')
  })

  it.each([
    ['/ops/audit', 'support'],
    ['/ops/keys', 'developer'],
  ] as const)('%s is not for %s', async (path, role) => {
    const { get } = await browser(role)
    expect((await get(path)).status).toBe(403)
    expect(await (await get('/ops')).text()).not.toContain(`href="${path}"`)
  })

  it('offer a viewer nothing to do', async () => {
    const { get } = await browser('viewer')
    for (const path of pagesOf(day).filter((one) => !['/ops/audit', '/ops/keys'].includes(one))) {
      const posts = [...(await (await get(path)).text()).matchAll(/<form method="post" action="([^"]+)"/g)].map(([, to]) => to)
      expect([path, posts]).toEqual([path, ['/ops/sign-out']])
    }
  })

  it('page through the audit trail', async () => {
    const { get } = await browser('developer')
    const text = await (await get('/ops/audit?action=incident.')).text()
    expect(text).toContain('incident.opened')
    expect(text).not.toContain('>session.opened<')
    expect(await (await get('/ops/audit?before=2')).text()).toContain('<th role="rowheader" scope="row">1</th>')
  })

  it('show a long timeline and a long history in parts, each with the way to the one before', async () => {
    await test.db.execute(
      `insert into caretaker.incident_events (incident, at, kind, actor, detail, public, body)
       select $1::uuid, now(), 'note', '{"type":"cli"}', '{}', false, 'note ' || n from generate_series(1, 150) n`,
      [day.resolved],
    )
    await test.db.execute(
      `insert into caretaker.runs (job, slot, actor, state, attempt, queued_at)
       select 'long', '2020-01-01'::timestamptz + n * interval '1 microsecond', '{"type":"system"}', 'done', 1, '2020-01-01' from generate_series(1, 250) n`,
    )
    const { get } = await browser('viewer')
    /** Every part from the first on: what `each` finds on it. */
    const parts = async (first: string, each: RegExp) => {
      const found: string[][] = []
      for (let next: string | undefined = first; next !== undefined && found.length < 9; ) {
        const text = await (await get(next)).text()
        found.push([...text.matchAll(each)].map(([, one]) => one ?? ''))
        next = /<a href="([^"]+)">Older<\/a>/.exec(text)?.[1]?.replaceAll('&amp;', '&')
      }
      return found
    }
    const notes = await parts(`/ops/incidents/${day.resolved}`, /<blockquote>note (\d+)</g)
    expect(notes.map(({ length }) => length)).toEqual([100, 50])
    expect(notes.flat().sort((a, b) => Number(a) - Number(b))).toEqual(Array.from({ length: 150 }, (_, n) => String(n + 1)))
    const runs = await parts('/ops/runs?job=long', /<a href="\/ops\/runs\/([\w-]+)">long</g)
    expect(runs.map(({ length }) => length)).toEqual([100, 100, 50])
    expect(new Set(runs.flat()).size).toBe(250)
    await test.db.execute(`delete from caretaker.runs where job = 'long'`)
    await test.db.execute(`delete from caretaker.incident_events where body like 'note %'`)
  })

  it('ask the database a few questions, however much there is, and count what is dead by its own index', async () => {
    const { session } = await browser('viewer')
    const asked: string[] = []
    const ctx = testContext(test.db, { config: policy })
    const query: typeof test.db.query = (sql, params) => {
      asked.push(sql)
      return test.db.query(sql, params)
    }
    const { request } = testServer(ops(), { ...ctx, db: Object.assign(Object.create(test.db) as typeof test.db, { query }) })
    for (const path of pagesOf(day)) {
      asked.length = 0
      await request(path, { headers: { cookie: session } })
      expect([path, asked.length <= 20]).toEqual([path, true])
      if (path !== '/ops') continue
      const counting = asked.find((sql) => sql.includes("state = 'dead'")) ?? ''
      const plan = await test.db.transaction(async (tx) => {
        await tx.execute('set local enable_seqscan = off')
        return tx.query(`explain ${counting}`)
      })
      expect(JSON.stringify(plan)).toMatch(/inbox_dead.*deliveries_dead/)
    }
  })

  it('give a post-mortem as a file', async () => {
    const response = await (await browser('viewer')).get(`/ops/incidents/${day.resolved}/postmortem.md`)
    expect(response.headers.get('content-disposition')).toBe('attachment; filename="postmortem.md"')
    expect(await response.text()).toContain('Slow pages')
  })
})

describe('the description of the API', () => {
  it('leaves the pages out, which are for people', () => {
    const { paths } = describeApi(ops(), 'Test') as { paths: object }
    expect(Object.keys(paths).filter((path) => path.startsWith('/api/ops/')).length).toBeGreaterThan(5)
    expect(Object.keys(paths).filter((path) => !path.startsWith('/api/'))).toEqual([])
  })
})

describe('signing in', () => {
  it('leads to where one was going, on this site alone', async () => {
    const to = async (wanted: string) => (await signIn({ key: keyOf('viewer'), to: wanted })).headers.get('location')
    expect(await to('/ops/incidents/12?x=1')).toBe('/ops/incidents/12?x=1')
    for (const elsewhere of [
      'https://evil.example/ops',
      '//evil.example/ops',
      '/\\evil.example',
      '/ops/../../evil',
      '/opsx',
      'ops',
      '/ops//evil.example',
      '',
    ])
      expect([elsewhere, await to(elsewhere)]).toEqual([elsewhere, '/ops'])
  })

  it.each([
    ['a wrong key', { key: `ck_${'y'.repeat(43)}` }, 401],
    ['nothing', {}, 400],
    ['an account where there is no Supabase', { email: 'a@example.com', password: 'secret' }, 503],
    ['a field that is none', { key: 'x', role: 'admin' }, 422],
  ])('with %s says so on the page', async (_what, fields, status) => {
    const response = await signIn(fields)
    expect(response.status).toBe(status)
    expect(response.headers.getSetCookie()).toEqual([])
    expect(await response.text()).toMatch(/<p class="flash bad">[^<]+<\/p>/)
  })

  it('from another site is refused', async () => {
    const response = await signIn({ key: keyOf('viewer') }, { origin: 'https://evil.example', 'sec-fetch-site': 'cross-site' })
    expect(response.status).toBe(403)
    expect(response.headers.getSetCookie()).toEqual([])
  })

  it('again ends the session that the browser had before', async () => {
    const first = await browser('viewer')
    const other = await browser('viewer')
    const response = await signIn({ key: keyOf('support') }, { ...ownPage, cookie: first.session } as typeof ownPage)
    expect((await first.get('/ops')).status).toBe(303)
    expect((await other.get('/ops')).status).toBe(200)
    expect((await other.get('/ops', cookieOf(response, 'session'))).status).toBe(200)
  })

  it('out ends the session', async () => {
    const { get, act } = await browser('viewer')
    expect((await act('/ops/sign-out')).to).toBe('/ops/sign-in')
    expect((await get('/ops')).status).toBe(303)
  })

  it('out without a database forgets the session here, and says that it could not be ended', async () => {
    const { session } = await browser('viewer')
    const down = () => Promise.reject(new CaretakerError('database_unavailable', 'down'))
    const ctx = testContext(test.db, { config: policy })
    const { request } = testServer(ops(), { ...ctx, db: { ...ctx.db, query: down, transaction: down } })
    const response = await request('/ops/sign-out', {
      method: 'POST',
      body: new URLSearchParams({ csrf: 'x' }),
      headers: { cookie: session, ...ownPage },
    })
    expect([response.status, response.headers.get('location')]).toEqual([303, '/ops/sign-in'])
    expect(response.headers.getSetCookie()[0]).toMatch(/^caretaker-session=; .*Max-Age=0/)
    const said = await request('/ops/sign-in', { headers: { cookie: cookieOf(response, 'flash') ?? '' } })
    expect(await said.text()).toContain('it could not be ended (database_unavailable)')
    const page = await request('/ops', { headers: { cookie: session } })
    expect([page.status, (await page.text()).includes('<a href="/status">status page</a>')]).toEqual([503, true])
  })
})

describe('actions', () => {
  it('run a job, and say so', async () => {
    const before = woken
    const { act } = await browser('developer')
    const { to, said } = await act('/ops/jobs/sweep/run')
    expect([to, said]).toEqual(['/ops/jobs', 'sweep is queued; it begins within seconds.'])
    expect(woken).toBe(before + 1)
    expect((await act('/ops/jobs/sweep/run', { back: 'backups' })).to).toBe('/ops/backups')
    expect((await act('/ops/jobs/nothing/run')).said).toContain('There is no job "nothing"')
  })

  it('take an incident from acknowledged to its end', async () => {
    const { act } = await browser('developer')
    const at = (verb: string) => `/ops/incidents/${day.incident}/${verb}`
    expect((await act(at('acknowledge'))).said).toContain('is acknowledged')
    expect((await act(at('update'), { state: 'identified', message: hostile, public: 'yes' })).said).toContain('is identified')
    expect((await act(at('check'), { item: '1', done: 'yes' })).said).toMatch(/^1 of \d+ items are done\.$/)
    expect((await act(at('check'), { item: '99', done: 'yes' })).said).toContain('item: found 99')
    expect((await act(at('note'), { note: 'Seen.' })).text).toContain('Seen.')
    expect((await act(at('severity'), { severity: 'P1', reason: 'Half of it works.' })).said).toContain('severity P1')
    expect((await act(at('severity'), { severity: 'nope' })).said).toContain('expected one of P0')
    expect((await act(at('resolve'), { message: '', rootCause: 'Theirs.' })).said).toContain('is resolved')
    expect((await act(at('acknowledge'))).said).toContain('is resolved')
    expect((await act(at('root-cause'), { rootCause: 'Their certificate.' })).text).toContain('Their certificate.')
    const { to, said } = await act('/ops/incidents', { title: 'By hand', severity: 'P3', component: '', message: '' })
    expect(to).toMatch(/^\/ops\/incidents\/[0-9a-f-]{36}$/)
    expect(said).toContain('is open')
  })

  it('replay dead letters', async () => {
    const { act } = await browser('support')
    expect((await act(`/ops/webhooks/events/${day.event}/replay`)).said).toContain(
      `Event ${day.event} (invoice.paid ${hostile}) is due again.`,
    )
    expect((await act(`/ops/webhooks/deliveries/${day.delivery}/replay`)).said).toContain('to partner is due again.')
    expect((await act('/ops/webhooks/events/999999/replay')).said).toContain('There is no webhook event')
    await test.db.execute(`update caretaker.inbox set state = 'dead'`)
    expect((await act('/ops/webhooks/replay-dead')).said).toBe('1 event due again.')
    await test.db.execute(
      `insert into caretaker.inbox (source, event_id, type, occurred_at, payload, state)
       select 'make', 'many_' || n, 'many', now(), case when n <= 501 then '\\x01'::bytea else '' end, 'dead' from generate_series(1, 1510) n order by n`,
    )
    const { get } = await browser('support')
    const text = await (await get('/ops/webhooks')).text()
    expect(text).toContain('Replay all 1,510 events')
    expect(text).toContain('Events that could not be applied: the newest 50 of 1,510')
    // What was pruned is newer, and keeps nothing else from its turn.
    expect((await act('/ops/webhooks/replay-dead')).said).toBe(
      '500 events due again. 1 more can be replayed: press again. 1009 cannot be replayed: what they held was pruned.',
    )
    expect((await act('/ops/webhooks/replay-dead')).said).toBe('1 event due again. 1009 cannot be replayed: what they held was pruned.')
    await test.db.execute(`delete from caretaker.inbox where type = 'many'`)
  })

  it('decide a privacy request', async () => {
    const { act } = await browser('support')
    const at = (verb: string) => `/ops/gdpr/${day.request}/${verb}`
    expect((await act(at('approve'))).said).toContain('Approved')
    expect(await act(at('approve'))).toMatchObject({ said: 'It was approved before.', tone: 'none' })
    expect((await act(at('extend'), { reason: 'Many tables to look through.' })).said).toMatch(/^Extended: it is due on \d{4}-\d\d-\d\d\.$/)
    expect((await act(at('refuse'), { reason: '' })).said).toBe('Reason that the person is told: must not be empty. Nothing was done.')
    expect((await act(at('refuse'), { reason: 'Who asks is not the person.' })).said).toContain('Refused.')
  })

  it('silence, and end a silence; test a channel, or say what it lacks', async () => {
    const { act } = await browser('developer')
    expect((await act('/ops/channels/slack/test')).said).toContain('SLACK_WEBHOOK_URL')
    expect((await act('/ops/channels/nothing/test')).said).toContain('nothing')
    expect((await act('/ops/silences', { matcher: 'stripe', hours: '2', reason: 'Known.' })).said).toMatch(/^Silent until .* CES?T\.$/)
    expect((await act('/ops/silences', { matcher: 'component=strpie', hours: '2', reason: 'Known.' })).said).toContain(
      'Nothing that is watched matches it',
    )
    expect((await act('/ops/silences', { matcher: '=', hours: '2', reason: 'Known.' })).said).toMatch(
      /^What: expected .* Nothing was done\.$/,
    )
    expect((await act(`/ops/silences/${day.silence}/end`)).said).toBe('The silence is over.')
    expect((await act(`/ops/silences/${day.silence}/end`)).said).toContain('is over already')
  })

  it("announce maintenance in the app's own time, and call it off", async () => {
    const { act } = await browser('developer')
    const { said } = await act('/ops/maintenance', {
      title: 'Upgrade',
      body: '',
      startsAt: '2030-07-01T22:00',
      endsAt: '2030-07-01T23:00',
      components: 'database',
    })
    expect(said).toBe('“Upgrade” is announced.')
    const [row] = await test.db.query(`select starts_at, components from caretaker.maintenance_windows where title = 'Upgrade'`)
    // Berlin is two hours ahead in summer.
    expect(row).toEqual({ starts_at: new Date('2030-07-01T20:00:00Z'), components: ['database'] })
    expect((await act('/ops/maintenance', { title: 'No', startsAt: 'tomorrow', endsAt: '2030-07-01T23:00' })).said).toContain(
      'Begins (Europe/Berlin): expected a date',
    )
    expect((await act(`/ops/maintenance/${day.window}/end`)).said).toBe('The maintenance is over.')
  })

  it('revoke a key, which ends its sessions at once', async () => {
    const support = await browser('support')
    const { act, get } = await browser('admin')
    const [key] = await test.db.query<{ id: string }>(`select id::text from caretaker.api_keys where role = 'support'`)
    expect((await act(`/ops/keys/${key?.id}/revoke`)).said).toContain('support is revoked')
    expect((await support.get('/ops')).status).toBe(303)
    expect(await act(`/ops/keys/${key?.id}/revoke`)).toMatchObject({ said: 'The key was revoked before.', tone: 'none' })
    expect(await (await get('/ops/keys')).text()).toContain('revoked')
    await test.db.execute(`update caretaker.api_keys set revoked_at = null where role = 'support'`)
  })

  it('say kindly what somebody else had done a second before', async () => {
    const [first, second] = [await browser('support'), await browser('developer')]
    const opened = await second.act('/ops/incidents', { title: 'Two look at it', severity: 'P3', component: '', message: '' })
    await first.act(`${opened.to}/acknowledge`)
    expect((await second.act(`${opened.to}/acknowledge`)).said).toMatch(
      /was acknowledged before, by support [0-9a-f]{8}: it stays theirs\.$/,
    )
    expect((await first.act(`${opened.to}/acknowledge`)).said).toContain('no reminder and no escalation')
    await second.act(`${opened.to}/resolve`, { message: '', rootCause: '' })
    // The form is not on the page any more; what was typed into it is.
    const late = await first.act(`${opened.to}/update`, { state: 'identified', message: `It is ${hostile}`, public: 'no', publicTitle: '' })
    expect(late).toMatchObject({ status: 409, said: expect.stringContaining('is resolved') })
    expect(unescaped(late.text)).toMatch(/What you wrote[\s\S]*It is <script>alert/)
  })

  it('are audited with the key that did them', async () => {
    const rows = await test.db.query<{ action: string }>(
      `select distinct action from caretaker.audit where actor ->> 'type' = 'operator' order by action`,
    )
    const actions = rows.map(({ action }) => action)
    for (const action of [
      'job.requested',
      'webhooks.replayed',
      'webhooks.redelivered',
      'gdpr.approved',
      'alerts.silenced',
      'key.revoked',
      'incident.resolved',
    ])
      expect(actions).toContain(action)
  })

  const refusals: [Role, string][] = [
    ['viewer', '/ops/jobs/sweep/run'],
    ['support', '/ops/jobs/sweep/run'],
    ['viewer', '/ops/incidents/1/acknowledge'],
    ['support', '/ops/incidents/1/resolve'],
    ['support', '/ops/incidents'],
    ['viewer', '/ops/webhooks/events/1/replay'],
    ['viewer', '/ops/webhooks/replay-dead'],
    ['developer', '/ops/gdpr/1/approve'],
    ['viewer', '/ops/gdpr/1/refuse'],
    ['support', '/ops/silences'],
    ['support', '/ops/channels/slack/test'],
    ['support', '/ops/maintenance'],
    ['developer', '/ops/keys/1/revoke'],
  ]
  it.each(refusals)('refuse a %s at %s, in words', async (role, path) => {
    const response = await (await browser(role)).send(path)
    expect(response.status).toBe(403)
    expect(await response.text()).toContain(`The role &quot;${role}&quot; may not do this`)
  })

  it('of every kind refuse a form that is not theirs', async () => {
    const { session } = await browser('admin')
    const posts = ops().filter(({ path, methods }) => path.startsWith('/ops/') && methods.includes('POST') && path !== '/ops/sign-in')
    expect(posts.length).toBeGreaterThan(15)
    const before = await test.db.query('select count(*) from caretaker.audit')
    for (const { path } of posts) {
      const to = path.replaceAll(/:\w+/g, '1')
      const forged = await server().request(to, {
        method: 'POST',
        body: new URLSearchParams({ csrf: 'x'.repeat(43) }),
        headers: { cookie: session, ...ownPage },
      })
      const foreign = await server().request(to, {
        method: 'POST',
        body: new URLSearchParams(),
        headers: { cookie: session, origin: 'https://evil.example' },
      })
      expect([path, forged.status, foreign.status]).toEqual([path, 403, 403])
      expect([path, forged.headers.getSetCookie(), foreign.headers.getSetCookie()]).toEqual([path, [], []])
    }
    expect(await test.db.query('select count(*) from caretaker.audit')).toEqual(before)
  })
})

describe('a form that is refused', () => {
  const title = (text: string) => unescaped(/<title>(.*)<\/title>/.exec(text)?.[1] ?? '')

  it('comes back with what was typed; each mistake stands at its field, at the top and in the title', async () => {
    const { act } = await browser('developer')
    const reason = `Known ${hostile}`
    const { status, text, said } = await act('/ops/silences', { matcher: '==', hours: '24', reason })
    expect(status).toBe(422)
    expect(said).toMatch(/^What: expected/)
    expect(title(text)).toMatch(/^Error: What: expected .* · Alerts · /)
    const field = /<label for="matcher">.*?<\/div>/s.exec(text)?.[0] ?? ''
    expect(field).toMatch(/<span class="error" id="matcher-error">expected[^<]+<\/span><input[^>]* value="=="/)
    expect(field).toMatch(/aria-describedby="matcher-error matcher-hint" aria-invalid="true" autofocus/)
    expect(text).toContain('<p class="flash bad"><a href="#matcher">What</a>: expected')
    expect(text).toContain('<option value="24" selected>')
    expect(unescaped(text)).toContain(`value="${reason}"`)
    expect(text.match(/aria-invalid="true"/g)).toHaveLength(1)
  })

  it('keeps boxes that were ticked, texts of several lines, and what is right', async () => {
    const { act } = await browser('developer')
    const sent = { title: 'Disks', body: '\nFirst\nsecond', startsAt: '2030-07-01T22:00', endsAt: '2030-07-01T21:00', components: 'stripe' }
    const { status, text } = await act('/ops/maintenance', sent)
    expect(status).toBe(422)
    expect(text).toMatch(/id="endsAt-error">expected a time after 2030-07-01 22:00 [^<]+<\/span><input[^>]* aria-invalid="true"/)
    expect(text).toContain('value="stripe" checked>')
    // A browser leaves out the first line break.
    expect(text).toMatch(/<textarea[^>]*>\n\nFirst\nsecond<\/textarea>/)
    expect(text).toContain('value="2030-07-01T22:00"')
  })

  it('of a question comes back on its page', async () => {
    const { act, get } = await browser('support')
    await test.db.execute(
      `update caretaker.gdpr_requests set finished_at = null, state = 'verified', review = 'needed' where id = $1::uuid`,
      [day.request],
    )
    const at = `/ops/gdpr/${day.request}/refuse`
    const { status, text } = await act(at, { reason: 'No' })
    expect([status, /<h1>([^<]*)/.exec(text)?.[1], /<textarea[^>]*>([^<]*)/.exec(text)?.[1]]).toEqual([422, 'Refuse a request', 'No'])
    expect((await get(at)).status).toBe(200)
  })

  it('whose session has ended is shown again after signing in, and nothing is done before', async () => {
    const { csrf, session } = await browser('developer')
    const note = `Half written ${hostile}`
    await test.db.execute('update caretaker.sessions set ended_at = now() where ended_at is null')
    const path = `/ops/incidents/${day.incident}/note`
    const send = (headers: Record<string, string>, fields: Record<string, string>, to = path) =>
      server().request(to, { method: 'POST', body: new URLSearchParams(fields), headers: { ...ownPage, ...headers } })
    const ended = await send({ cookie: session }, { csrf, note, once: 'x' })
    expect(ended.status).toBe(401)
    const page = await ended.text()
    expect(page).toContain('what you wrote is kept')
    const kept = unescaped(/name="kept" value="([^"]*)"/.exec(page)?.[1] ?? '')
    expect(JSON.parse(kept)).toEqual({ action: path, fields: { note } })
    // A slip of the key loses it no more than the session did.
    const slip = await (await signIn({ key: 'ck_wrong', kept })).text()
    expect(unescaped(/name="kept" value="([^"]*)"/.exec(slip)?.[1] ?? '')).toBe(kept)
    const again = await signIn({ key: keyOf('developer'), kept, to: `/ops/incidents/${day.incident}` })
    expect(again.status).toBe(200)
    const shown = await again.text()
    expect(unescaped(shown)).toContain(`${note}</textarea>`)
    expect(saidOn(shown)).toMatchObject({ tone: 'none', said: expect.stringContaining('Nothing was done yet') })
    expect(await test.db.query('select from caretaker.incident_events where body = $1', [note])).toEqual([])
    // The page that came back belongs to the new session.
    const cookie = cookieOf(again, 'session') ?? ''
    const fresh = /name="csrf" value="([\w-]+)"/.exec(shown)?.[1] ?? ''
    expect((await send({ cookie }, { csrf: fresh, note })).status).toBe(303)
    expect(await test.db.query('select from caretaker.incident_events where body = $1', [note])).toHaveLength(1)
  })

  it('is kept however long its texts may be', async () => {
    const { csrf, session } = await browser('developer')
    await test.db.execute('update caretaker.sessions set ended_at = now() where ended_at is null')
    const long = `Long${'\r\n'.repeat(19_996)}`
    const ended = await server().request(`/ops/incidents/${day.incident}/resolve`, {
      method: 'POST',
      body: new URLSearchParams({ csrf, message: long, rootCause: long }),
      headers: { cookie: session, ...ownPage },
    })
    const kept = unescaped(/name="kept" value="([^"]*)"/.exec(await ended.text())?.[1] ?? '')
    const again = await signIn({ key: keyOf('developer'), kept })
    expect([again.status, (await again.text()).includes(long)]).toEqual([200, true])
  })

  it('is not shown to who signs in and may not see its page, and they hear so', async () => {
    const kept = JSON.stringify({ action: `/ops/gdpr/${day.request}/refuse`, fields: { reason: 'Theirs alone.' } })
    const answer = await signIn({ key: keyOf('developer'), kept, to: '/ops/gdpr' })
    expect([answer.status, answer.headers.get('location')]).toEqual([303, '/ops/gdpr'])
    const cookie = `${cookieOf(answer, 'session')}; ${cookieOf(answer, 'flash')}`
    const { said, text } = saidOn(await (await server().request('/ops/gdpr', { headers: { cookie } })).text())
    expect([said, text.includes('Theirs alone.')]).toEqual([expect.stringContaining('cannot be shown to you'), false])
  })

  it('cannot be sent from the history once the session that it came back to is over', async () => {
    const { csrf, session } = await browser('developer')
    await test.db.execute('update caretaker.sessions set ended_at = now() where ended_at is null')
    const ended = await server().request(`/ops/incidents/${day.incident}/note`, {
      method: 'POST',
      body: new URLSearchParams({ csrf, note: 'Theirs alone.' }),
      headers: { cookie: session, ...ownPage },
    })
    const hidden = (page: string) =>
      Object.fromEntries(
        [...page.matchAll(/type="hidden" name="(\w+)" value="([^"]*)"/g)].map(([, name, value]) => [name, unescaped(value ?? '')]),
      )
    const fields = { ...hidden(await ended.text()), key: keyOf('developer') }
    const opened = async () => cookieOf(await signIn(fields), 'session')
    // Loading the page again is no harm while one is signed in.
    expect([await opened(), await opened()]).toEqual([expect.any(String), expect.any(String)])
    await test.db.execute('update caretaker.sessions set ended_at = now() where ended_at is null')
    const again = await signIn(fields)
    const text = await again.text()
    expect([again.status, cookieOf(again, 'session'), text.includes('Theirs alone.')]).toEqual([401, undefined, false])
  })

  it('of an earlier session comes back for the new one; a button alone leads to the page', async () => {
    const before = await browser('developer')
    const { session } = await browser('developer')
    const send = (path: string, fields: Record<string, string>) =>
      server().request(path, {
        method: 'POST',
        body: new URLSearchParams({ csrf: before.csrf, ...fields }),
        headers: { cookie: session, ...ownPage },
      })
    const response = await send('/ops/silences', { matcher: 'stripe', hours: '2', reason: 'Written before.' })
    const text = await response.text()
    expect([response.status, saidOn(text).said]).toEqual([403, expect.stringContaining('you have signed in again')])
    expect(text).toContain('value="Written before."')
    // It is said at the form, too, and the page opens there.
    expect(text).toMatch(/<p class="error">Nothing was done: you have signed in again[\s\S]*id="matcher"[^>]* autofocus/)
    expect(text.match(/ autofocus/g)).toHaveLength(1)
    expect((await send('/ops/jobs/sweep/run', {})).status).toBe(403)
    await test.db.execute('update caretaker.sessions set ended_at = now() where ended_at is null')
    const away = await send('/ops/jobs/sweep/run', {})
    expect([away.status, away.headers.get('location')]).toEqual([303, '/ops/sign-in?to=%2Fops%2Fjobs'])
    const page = await server().request('/ops/sign-in', { headers: { cookie: cookieOf(away, 'flash') ?? '' } })
    expect(await page.text()).toContain('Your session had ended: nothing was done.')
  })

  it('that another site sent does not come back', async () => {
    const { session } = await browser('developer')
    const response = await server().request('/ops/silences', {
      method: 'POST',
      body: new URLSearchParams({ matcher: 'planted', hours: '2', reason: 'planted' }),
      headers: { cookie: session, origin: 'https://evil.example', 'sec-fetch-site': 'cross-site' },
    })
    expect([response.status, (await response.text()).includes('planted')]).toEqual([403, false])
  })
})

describe('a form', () => {
  it('that is sent twice at once counts once, and whoever sends it again ends at the same page', async () => {
    const { send, get } = await browser('developer')
    const once = /name="once" value="([\w-]+)"/.exec(await (await get('/ops/incidents')).text())?.[1] ?? ''
    const fields = { title: 'Pressed twice', severity: 'P3', component: '', message: '', once }
    const answers = await Promise.all([send('/ops/incidents', fields), send('/ops/incidents', fields)])
    // The second waits for the first; where that takes longer, it says that it does not know yet.
    expect(answers.map(({ status }) => status).sort()[0]).toBe(303)
    for (const { status } of answers) expect([303, 409]).toContain(status)
    const third = await send('/ops/incidents', fields)
    const first = answers.find(({ status }) => status === 303)
    expect(third.headers.get('location')).toBe(first?.headers.get('location'))
    const count = () => test.db.query(`select from caretaker.incidents where title = 'Pressed twice'`)
    expect(await count()).toHaveLength(1)
    // Who goes back and writes something else sends another form; so does who opens the page anew.
    expect((await send('/ops/incidents', { ...fields, title: 'Another' })).status).toBe(303)
    await send('/ops/incidents', { ...fields, once: `${once}2` })
    expect(await count()).toHaveLength(2)
  })

  it('of which nobody knows how it ended comes back with what was typed, and may be sent once more', async () => {
    const { act, send } = await browser('developer')
    const fields = { note: `Sent while the database went away ${hostile}`, once: 'unknown' }
    const path = `/ops/incidents/${day.incident}/note`
    await send(path, fields)
    // As if what it did, and the word that it was refused, had both been lost with the connection.
    await test.db.execute('delete from caretaker.incident_events where body = $1', [fields.note])
    await test.db.execute('update caretaker.submissions set answer = null')
    const { status, said, text } = await act(path, fields)
    expect([status, said]).toEqual([409, expect.stringContaining('how that ended is not known')])
    expect(unescaped(text)).toContain(`${fields.note}</textarea>`)
    const once = /name="once" value="([\w-]+)"/.exec(text)?.[1] ?? ''
    expect((await act(path, { ...fields, once })).said).toContain('The note is in the timeline.')
  })

  it('counts in a database that is older than the pages, too', async () => {
    const { act } = await browser('developer')
    await test.db.execute('alter table caretaker.submissions rename to elsewhere')
    const { said } = await act('/ops/jobs/sweep/run', { once: 'early' }).finally(() =>
      test.db.execute('alter table caretaker.elsewhere rename to submissions'),
    )
    expect(said).toContain('sweep is queued')
  })

  it('that was refused may be sent again', async () => {
    const { act } = await browser('developer')
    for (const _time of [1, 2])
      expect((await act('/ops/webhooks/events/999999/replay', { once: 'again' })).said).toContain('There is no webhook event')
  })

  it('has a way back from its address', async () => {
    const { get } = await browser('developer')
    for (const path of ['/ops/silences', '/ops/jobs/sweep/run', `/ops/incidents/${day.incident}/update`, '/ops/webhooks/events/1/replay']) {
      const response = await get(path)
      expect([path, response.status, response.headers.get('location')]).toEqual([path, 303, expect.stringMatching(/^\/ops\//)])
    }
  })
})

describe('a question', () => {
  it('stands before what cannot be taken back', async () => {
    const { get, act } = await browser('admin')
    const [key] = await test.db.query<{ id: string }>(
      `insert into caretaker.api_keys (name, role, hash) values ($1, 'viewer', $2::bytea) returning id::text`,
      [`Asked ${hostile}`, Buffer.from('asked')],
    )
    const inDays = (days: number) => new Date(Date.now() + days * 86_400_000).toISOString().slice(0, 16)
    const window = await act('/ops/maintenance', { title: `Asked ${hostile}`, startsAt: inDays(200), endsAt: inDays(201) })
    const ending = /href="(\/ops\/maintenance\/[0-9a-f-]+\/end)"/.exec(window.text)?.[1] ?? ''
    const posts = (text: string) => [...text.matchAll(/<form method="post" action="([^"]+)"/g)].map(([, to]) => to)
    for (const [list, question] of [
      ['/ops/keys', `/ops/keys/${key?.id}/revoke`],
      ['/ops/maintenance', ending],
      [`/ops/gdpr/${day.request}`, `/ops/gdpr/${day.request}/approve`],
      [`/ops/gdpr/${day.request}`, `/ops/gdpr/${day.request}/refuse`],
    ] as const) {
      const text = await (await get(list)).text()
      expect([question, text.includes(`href="${question}"`), posts(text).includes(question)]).toEqual([question, true, false])
      const asked = await (await get(question)).text()
      expect([question, posts(asked).includes(question), asked.includes('>Cancel</a>'), asked.includes('<script')]).toEqual([
        question,
        true,
        true,
        false,
      ])
    }
    await act(`/ops/keys/${key?.id}/revoke`)
    const settled = await (await get(`/ops/keys/${key?.id}/revoke`)).text()
    expect([settled.includes('The key was revoked before.'), posts(settled)]).toEqual([true, ['/ops/sign-out']])
  })

  it('says that it is your own key, whose revocation signs you out', async () => {
    const [key] = await test.db.query<{ id: string }>(`select id::text from caretaker.api_keys where role = 'admin'`)
    const { get, act } = await browser('admin')
    const at = `/ops/keys/${key?.id}/revoke`
    expect(await (await get(at)).text()).toContain('the key that you are signed in with')
    const { to, said } = await act(at)
    expect([to, said]).toEqual(['/ops/sign-in', expect.stringContaining('is revoked')])
    await test.db.execute(`update caretaker.api_keys set revoked_at = null where role = 'admin'`)
  })
})

describe('a message', () => {
  it('is for the page that it was left for: another tab does not take it', async () => {
    const { get, send, session } = await browser('developer')
    const flash = cookieOf(await send('/ops/jobs/sweep/run'), 'flash')
    const other = await get('/ops/health', `${session}; ${flash}`)
    expect([saidOn(await other.text()).said, other.headers.getSetCookie()]).toEqual(['', []])
    const page = await get('/ops/jobs', `${session}; ${flash}`)
    expect(saidOn(await page.text()).said).toContain('sweep is queued')
  })
})
