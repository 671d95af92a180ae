import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { Invocation } from '../../../cli/command.ts'
import { commands } from '../../../cli/commands/incidents.ts'
import { applyToIncidents } from '../../../lib/alerts/incidents/apply-alerts.ts'
import { publicIncidents } from '../../../lib/alerts/index.ts'
import type { AlertChange } from '../../../lib/alerts/types.ts'
import { defineConfig } from '../../../lib/config/index.ts'
import { keyHash } from '../../../lib/http/index.ts'
import { type Role, roles } from '../../../lib/platform/actor.ts'
import { fixedClock } from '../../../lib/platform/clock.ts'
import type { Context } from '../../../lib/platform/context.ts'
import { opsIncidents } from '../../../lib/routes/ops-incidents.ts'
import { testContext } from '../../support/context.ts'
import { useTestDatabase } from '../../support/database.ts'
import { bearer, testServer } from '../../support/serve.ts'

const test = useTestDatabase()
const minute = 60_000
const config = defineConfig({ app: { name: 'Test' }, alerts: { channels: { slack: {}, pagerduty: {} } } })

let clock: ReturnType<typeof fixedClock>
let ctx: Context

beforeAll(async () => {
  for (const role of roles)
    await test.db.execute('insert into caretaker.api_keys (id, name, role, hash) values ($1::uuid, $2, $2, $3::bytea)', [
      `00000000-0000-4000-8000-00000000000${roles.indexOf(role)}`,
      role,
      keyHash(`ck_${role}_key`),
    ])
})

beforeEach(async () => {
  await test.db.execute('truncate caretaker.incidents, caretaker.notifications, caretaker.audit, caretaker.runs cascade')
  clock = fixedClock('2026-11-23T10:00:00Z')
  ctx = testContext(test.db, { clock, config, actor: { type: 'cli' } })
})

describe('over HTTP', () => {
  let woken: number
  beforeEach(() => {
    woken = 0
  })

  async function request(
    role: Role,
    path: string,
    body?: unknown,
  ): Promise<{ status: number; text: string; json: () => Record<string, unknown> }> {
    const server = testServer(
      opsIncidents({
        wake: async () => {
          woken++
        },
      }),
      ctx,
    )
    const { headers } = bearer(`ck_${role}_key`)
    const response = await server.request(
      `/api/ops/incidents${path}`,
      body === undefined
        ? { headers }
        : { headers: { ...headers, 'content-type': 'application/json' }, method: 'POST', body: JSON.stringify(body) },
    )
    await server.settled()
    const text = await response.text()
    return { status: response.status, text, json: () => JSON.parse(text) as Record<string, unknown> }
  }

  it('an incident is opened, answered, moved on and ended, and everybody who was told hears of it', async () => {
    const opened = await request('developer', '', {
      title: 'Payments  fail',
      severity: 'p1',
      component: 'stripe',
      publicTitle: 'Payments',
      message: 'Cards are refused.',
    })
    expect(opened.status).toBe(201)
    expect(opened.json()).toMatchObject({
      incident: { number: 1, title: 'Payments fail', severity: 'P1', public: true, channels: ['slack', 'pagerduty'] },
    })
    expect(woken).toBe(1)
    clock.advance(5 * minute)
    expect((await request('support', '/1/acknowledge', {})).json()).toMatchObject({
      incident: { acknowledgedBy: { type: 'operator', role: 'support' } },
    })
    await request('support', '/1/check', { item: 1 })
    await request('support', '/1/note', { note: 'Their status page is green.' })
    await request('support', '/1/update', { state: 'identified', message: 'A key had expired.' })
    await request('admin', '/1/severity', { severity: 'P0', reason: 'Nobody can pay' })
    clock.advance(5 * minute)
    expect(
      (await request('developer', '/1/resolve', { message: 'Cards work again.', rootCause: 'The key was rotated at one end only.' }))
        .status,
    ).toBe(200)
    const { incident, timeline } = (await request('viewer', '/1')).json() as { incident: object; timeline: { kind: string }[] }
    expect(incident).toMatchObject({ state: 'resolved', severity: 'P0', rootCause: 'The key was rotated at one end only.' })
    expect(timeline.map(({ kind }) => kind)).toEqual([
      'opened',
      'acknowledged',
      'checked',
      'note',
      'update',
      'severity',
      'root_cause',
      'resolved',
    ])
    const told = await test.db.query<{ kind: string; payload: { text?: string } }>(
      `select kind, payload from caretaker.notifications where channel = 'slack' order by id`,
    )
    expect(told.map(({ kind, payload }) => [kind, payload.text])).toEqual([
      ['opened', undefined],
      ['acknowledged', undefined],
      ['update', 'A key had expired.'],
      ['raised', undefined],
      ['resolved', 'Cards work again.'],
    ])
    const audited = await test.db.query<{ action: string }>('select action from caretaker.audit order by seq')
    expect(audited.map(({ action }) => action)).toEqual(
      ['opened', 'acknowledged', 'checked', 'noted', 'updated', 'severity', 'resolved'].map((verb) => `incident.${verb}`),
    )
    expect(JSON.stringify(await test.db.query('select detail from caretaker.audit'))).not.toContain('key')
  })

  it('a list goes from page to page, open ones first, and leaves none out', async () => {
    for (let number = 1; number <= 9; number++) {
      await request('admin', '', { title: `Incident ${number}`, severity: 'P3' })
      // Open are 2, 5 and 8: among them are older and newer ones that are over.
      if (number % 3 !== 2) await request('admin', `/${number}/resolve`, {})
    }
    const pages = async (query: string) => {
      const seen: number[][] = []
      for (let next = ''; ; ) {
        const page = (await request('viewer', `?limit=2${query}${next}`)).json() as {
          incidents: { number: number }[]
          next: { before: number; beforeState: string } | null
        }
        seen.push(page.incidents.map(({ number }) => number))
        if (page.next === null || seen.length > 9) return seen
        next = `&before=${page.next.before}&beforeState=${page.next.beforeState}`
      }
    }
    expect(await pages('')).toEqual([[8, 5], [2, 9], [7, 6], [4, 3], [1]])
    expect(await pages('&state=open')).toEqual([[8, 5], [2]])
    expect(await pages('&state=resolved')).toEqual([[9, 7], [6, 4], [3, 1], []])
  })

  it('the public sees its own name and words of it, and nothing else', async () => {
    await request('developer', '', { title: 'Payments fail', severity: 'P0', component: 'stripe', affected: ['checkout'] })
    await request('developer', '', { title: 'Secret', severity: 'P3' })
    await request('support', '/1/note', { note: 'internal' })
    clock.advance(minute)
    await request('support', '/1/update', { state: 'monitoring' })
    expect(await publicIncidents(ctx)).toEqual([
      {
        id: expect.any(String),
        title: 'Service disruption',
        impact: 'critical',
        state: 'monitoring',
        components: ['stripe', 'checkout'],
        startedAt: new Date('2026-11-23T10:00:00Z'),
        resolvedAt: null,
        partOf: null,
        updates: [
          {
            id: expect.any(String),
            at: new Date('2026-11-23T10:01:00Z'),
            state: 'monitoring',
            body: 'A fix is in place. We are watching whether it holds.',
          },
          { id: expect.any(String), at: new Date('2026-11-23T10:00:00Z'), state: 'investigating', body: 'We are investigating.' },
        ],
      },
    ])
    await request('support', '/1/update', { public: false })
    expect(await publicIncidents(ctx)).toEqual([])
    await request('support', '/2/update', { public: true, publicTitle: 'Small print' })
    await request('developer', '/2/resolve', {})
    expect(await publicIncidents(ctx)).toMatchObject([{ title: 'Small print', impact: 'none', state: 'resolved' }])
    clock.advance(91 * 24 * 60 * minute)
    expect(await publicIncidents(ctx)).toEqual([])
  })

  it.each<[string, Role, unknown]>([
    ['', 'support', { title: 'x', severity: 'P1' }],
    ['/1/severity', 'support', { severity: 'P3' }],
    ['/1/resolve', 'support', {}],
    ['/1/acknowledge', 'viewer', {}],
    ['/1/update', 'viewer', { message: 'x' }],
    ['/1/check', 'viewer', { item: 1 }],
    ['/1/note', 'viewer', { note: 'x' }],
  ])('%s takes more than the role %s', async (path, role, body) => {
    await request('admin', '', { title: 'Something', severity: 'P1' })
    expect(await request(role, path, body)).toMatchObject({ status: 403 })
  })

  it('names what is wrong', async () => {
    await request('admin', '', { title: 'Something', severity: 'P1' })
    const said = async (path: string, body?: unknown) => {
      const { status, json } = await request('admin', path, body)
      return `${status} ${String(json().detail)}`
    }
    expect(await said('', { title: 'Something', severity: 'P7' })).toBe('422 severity: found "P7", expected one of P0, P1, P2, P3.')
    expect(await said('', { title: ' ', severity: 'P1' })).toBe('422 title: found nothing, expected some text.')
    expect(await said('', { title: 'x', severity: 'P1', component: 'Two words' })).toMatch(
      /^422 component: found "Two words", expected lower-case/,
    )
    expect(await said('/first')).toBe('422 Incident: found "first", expected a number such as 12, or an id.')
    expect(await said('/2')).toBe('404 There is no incident 2.')
    expect(await said('/1/check', { item: 9 })).toBe('422 item: found 9, expected a whole number from 1 to 8.')
    expect(await said('/1/note', { note: 'a\u0007b' })).toBe('422 note: found control characters, expected text.')
    expect(await said('/1/resolve', { message: 'a\u202eb' })).toBe(
      '422 message: found characters that turn the direction of what follows, expected text.',
    )
    expect(await said('/1/update', {})).toMatch(/^422 Nothing to change: expected state, message/)
    await request('admin', '/1/resolve', {})
    expect(await said('/1/acknowledge', {})).toMatch(/^409 Incident 1 is resolved\./)
    expect(await said('/1/update', { message: 'Late.' })).toMatch(/^409 Incident 1 is resolved\./)
    expect((await request('admin', '/1/update', { rootCause: 'Late, but true.' })).status).toBe(200)
  })
})

describe('at the terminal', () => {
  async function caretaker(name: string, args: string[] = [], flags: Invocation['flags'] = {}): Promise<string> {
    const command = commands.find((one) => one.name === `incidents ${name}`)
    if (command === undefined) throw new Error(`no command ${name}`)
    let printed: string | undefined
    await command.run({
      args,
      flags,
      context: () => Promise.resolve(ctx),
      out: {
        json: false,
        line: () => undefined,
        progress: () => undefined,
        result: (value, human) => {
          JSON.stringify(value)
          printed = human
        },
      },
    })
    if (printed === undefined) throw new Error('nothing was printed')
    return printed
  }

  it('an incident goes the same way, and its post-mortem is filled in from the timeline', async () => {
    await ctx.db.transaction((tx) => applyToIncidents(tx, ctx, [alert({})], clock.now()))
    clock.advance(20 * minute)
    expect(await caretaker('list', [], { state: 'open' })).toContain('2026-11-23 10:00:00 UTC  –')
    expect(await caretaker('ack', ['1'])).toBe('Incident 1: P0, investigating, acknowledged. database is <down>')
    clock.advance(5 * minute)
    expect(await caretaker('update', ['1'], { state: 'identified', message: 'We found it.\nMore soon.' })).toContain('identified')
    await caretaker('check', ['1', '3'])
    await caretaker('check', ['1', '4'])
    await caretaker('check', ['1', '4'], { undo: true })
    await caretaker('note', ['1', 'A `vacuum` held a lock.'])
    expect(await caretaker('severity', ['1', 'P2'], { reason: 'Reads work' })).toContain('P2')
    clock.advance(35 * minute)
    await ctx.db.transaction((tx) => applyToIncidents(tx, ctx, [alert({ change: 'resolved' })], clock.now()))
    await caretaker('update', ['1'], { 'root-cause': 'A lock without a timeout.' })
    expect(await caretaker('show', ['1'])).toContain('[x] 3. Assess impact and severity')
    expect(await caretaker('postmortem', ['1'])).toBe(postmortem)
  })

  it('says what it takes', async () => {
    await expect(caretaker('open', ['Something'])).rejects.toMatchObject({
      detail: '--severity is missing; expected one of P0, P1, P2, P3.',
    })
    await expect(caretaker('ack')).rejects.toMatchObject({ detail: '`caretaker incidents ack` takes INCIDENT, found 0 of 1.' })
    await expect(caretaker('update', ['1'], { state: 'resolved' })).rejects.toMatchObject({
      detail: expect.stringContaining('caretaker incidents resolve'),
    })
    await expect(caretaker('update', ['1'], { public: true, private: true })).rejects.toMatchObject({ code: 'bad_request' })
    expect(await caretaker('list')).toBe('No incidents.')
    const production = { ...ctx, env: { ...ctx.env, CARETAKER_ENVIRONMENT: 'production' } }
    await ctx.db.transaction((tx) => applyToIncidents(tx, production, [alert({})], clock.now()))
    expect(await caretaker('list')).toBe('No incidents here (CARETAKER_ENVIRONMENT is development); open elsewhere: 1 in production.')
  })
})

function alert(more: Partial<AlertChange>): AlertChange {
  return {
    alertId: 'a',
    rule: 'database',
    component: 'database',
    severity: 'P0',
    change: 'firing',
    since: new Date('2026-11-23T09:58:00Z'),
    summary: 'database is <down>',
    cause: 'timeout',
    runbook: 'https://runbooks.example/database',
    affected: ['rls', 'jobs'],
    ...more,
  }
}

const postmortem = `# Post-mortem of incident 1: database is \\<down\\>

| | |
|---|---|
| Severity | P2: A feature is unavailable, or performance is worse by less than half |
| Component | database |
| Also affected | rls, jobs |
| Began | 2026-11-23 09:58:00 UTC |
| Noticed | 2026-11-23 10:00:00 UTC (after 2 min), by alert database |
| Acknowledged | 2026-11-23 10:20:00 UTC (after 20 min), by the command line |
| Response | expected by 2026-11-23 10:15:00 UTC (after 15 min): too late |
| Escalated | 2026-11-23 10:00:00 UTC |
| Resolved | 2026-11-23 11:00:00 UTC (after 1 h 2 min), by Caretaker |
| Status page | shown |

## Summary

_What happened, in two sentences that somebody who was not there understands._

## Impact

_Who was affected, for how long, and what they could not do._

## Alerts

- database: database is \\<down\\> (timeout), since 2026-11-23 09:58:00 UTC, clear 2026-11-23 11:00:00 UTC; runbook: <https://runbooks.example/database>

## Timeline

All times are UTC.

- **10:00:00** opened as P0 by alert database; told slack, pagerduty
  > We are investigating.
- **10:00:00** alert database fires: database is \\<down\\>
- **10:20:00** acknowledged by the command line
- **10:25:00** identified by the command line
  > We found it.
  > More soon.
- **10:25:00** done: Assess impact and severity (the command line)
- **10:25:00** done: Implement immediate mitigation (the command line)
- **10:25:00** not done: Implement immediate mitigation (the command line)
- **10:25:00** note by the command line
  > A \`vacuum\` held a lock.
- **10:25:00** severity P0 became P2, by the command line: Reads work
- **11:00:00** alert database is clear
- **11:00:00** resolved by Caretaker
  > This is resolved.
- **11:00:00** root cause, by the command line
  > A lock without a timeout.

## Root cause

> A lock without a timeout.

## What went well

- 

## What went badly

- Nobody acknowledged in the time there was for it.
- 

## Prevention

| what | who | until |
|---|---|---|
| | | |

## Checklist

- [ ] Acknowledge the alert
- [ ] Create an incident channel (\\#incident-YYYY-MM-DD-description)
- [x] Assess impact and severity (2026-11-23 10:25:00 UTC, the command line)
- [ ] Implement immediate mitigation
- [ ] Update the status page
- [ ] Begin root cause analysis
- [ ] Deploy a fix
- [ ] Write the post-mortem
`
