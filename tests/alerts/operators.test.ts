import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { Invocation } from '../../cli/command.ts'
import { commands } from '../../cli/commands/alerts.ts'
import { alertSources } from '../../lib/alert-sources.ts'
import {
  countAbandoned,
  countPrunableAlerts,
  endAbandoned,
  evaluateAlerts,
  listIncidents,
  listSilences,
  planAlerts,
  pruneAlerts,
  silence,
} from '../../lib/alerts/index.ts'
import { scheduleMaintenance } from '../../lib/health/index.ts'
import { keyHash } from '../../lib/http/index.ts'
import { type Role, roles } from '../../lib/platform/actor.ts'
import type { Context } from '../../lib/platform/context.ts'
import { opsAlerts } from '../../lib/routes/ops-alerts.ts'
import { pagerDutyApi, pagerDutyState } from '../doubles/pagerduty.ts'
import { slackApi, slackState } from '../doubles/slack.ts'
import { useTestDatabase } from '../support/database.ts'
import { doubles } from '../support/doubles.ts'
import { bearer, testServer } from '../support/serve.ts'
import { alertContext, newWorld, sourcesOf } from './world.ts'

const test = useTestDatabase()

beforeAll(async () => {
  for (const role of roles)
    await test.db.execute('insert into caretaker.api_keys (id, name, role, hash) values ($1::uuid, $2, $2, $3::bytea)', [
      `00000000-0000-4000-8000-00000000000${roles.indexOf(role)}`,
      role,
      keyHash(`ck_${role}_key`),
    ])
})

const world = () =>
  alertContext(test.db, {
    channels: { slack: {}, pagerduty: {}, robot: { kind: 'webhook', url: 'https://robot.shop.test/hook' } },
    rules: [
      { name: 'slow', description: 'Slow answers', metric: 'http.p95', above: 5, for: '5 minutes', severity: 'P1', notify: [] },
      { name: 'off', metric: 'http.p99', above: 9, severity: 'P1', enabled: false },
    ],
  })

async function firing(ctx: Context) {
  const seen = newWorld()
  seen.down.set('database', 'refused')
  seen.down.set('jobs', 'job_failed')
  await evaluateAlerts(ctx, sourcesOf(seen))
}

describe('over HTTP', () => {
  async function request(ctx: Context, role: Role | null, method: string, path: string, body?: unknown) {
    const server = testServer(opsAlerts(), ctx)
    const headers: Record<string, string> = role === null ? {} : { ...bearer(`ck_${role}_key`).headers }
    const response = await server.request(path, {
      method,
      headers: body === undefined ? headers : { ...headers, 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    return { status: response.status, json: (await response.json()) as Record<string, unknown> }
  }

  it('whoever has a key sees what fires and what was told, and nobody else', async () => {
    const { ctx } = world()
    await firing(ctx)
    for (const path of ['/api/ops/alerts', '/api/ops/alerts/rules', '/api/ops/notifications', '/api/ops/silences']) {
      expect((await request(ctx, 'viewer', 'GET', path)).status).toBe(200)
      expect((await request(ctx, null, 'GET', path)).status).toBe(401)
    }
    expect((await request(ctx, 'viewer', 'GET', '/api/ops/alerts')).json).toMatchObject({
      alerts: [
        { rule: 'check-database', announced: true },
        { rule: 'check-jobs', withheld: 'inhibited', root: 'database' },
      ],
      silences: [],
      channels: ['slack', 'pagerduty', 'robot'],
    })
    expect((await request(ctx, 'viewer', 'GET', '/api/ops/notifications?limit=1')).json).toMatchObject({
      notifications: [{ state: 'waiting' }],
    })
    expect((await request(ctx, 'viewer', 'GET', '/api/ops/notifications?limit=0')).status).toBe(422)
  })

  it('developers silence and take it back; support and viewers do not', async () => {
    const { ctx } = world()
    const body = { matcher: 'stripe', for: '2 hours', reason: 'Their migration' }
    for (const role of ['support', 'viewer'] as const)
      expect((await request(ctx, role, 'POST', '/api/ops/silences', body)).status).toBe(403)
    const made = await request(ctx, 'developer', 'POST', '/api/ops/silences', body)
    expect(made).toMatchObject({
      status: 201,
      json: { silence: { reason: 'Their migration', createdBy: { type: 'operator', role: 'developer' } } },
    })
    const { id } = made.json.silence as { id: string }
    expect((await request(ctx, 'support', 'DELETE', `/api/ops/silences/${id}`)).status).toBe(403)
    expect((await request(ctx, 'admin', 'DELETE', `/api/ops/silences/${id}`)).status).toBe(200)
    expect((await request(ctx, 'admin', 'DELETE', `/api/ops/silences/${id}`)).status).toBe(409)
    const audit = await test.db.query<{ action: string }>(`select action from caretaker.audit where target = $1 order by seq`, [
      `silences/${id}`,
    ])
    expect(audit.map(({ action }) => action)).toEqual(['alerts.silenced', 'alerts.unsilenced'])
  })

  it.each([
    [{ matcher: 'stripe', for: 'soon', reason: 'x' }, 'for'],
    [{ matcher: '', for: '1 hour', reason: 'x' }, 'matcher'],
    [{ matcher: 'stripe', for: '60 days', reason: 'x' }, 'for'],
    [{ matcher: 'stripe', for: '1 hour' }, 'reason'],
  ])('a silence of %j is refused by naming the field', async (body, field) => {
    const { ctx } = world()
    const { status, json } = await request(ctx, 'admin', 'POST', '/api/ops/silences', body)
    expect(status).toBe(422)
    expect(JSON.stringify(json)).toContain(field)
  })

  it('a channel is tried, and what is wrong with it is said', async () => {
    const { ctx } = world()
    const slack = slackState()
    const pagerDuty = pagerDutyState()
    doubles.use(...slackApi(slack), ...pagerDutyApi(pagerDuty))
    expect((await request(ctx, 'developer', 'POST', '/api/ops/channels/slack/test')).status).toBe(200)
    expect(slack.sent[0]?.text).toContain('This is a test of the channel.')
    await request(ctx, 'developer', 'POST', '/api/ops/channels/pagerduty/test')
    expect(pagerDuty.incidents).toMatchObject([{ state: 'resolved', severity: 'info' }])
    slack.failWith = 404
    expect(await request(ctx, 'developer', 'POST', '/api/ops/channels/slack/test')).toMatchObject({
      status: 502,
      json: { detail: expect.stringContaining('http_404') },
    })
    expect((await request(ctx, 'developer', 'POST', '/api/ops/channels/slak/test')).json).toMatchObject({
      detail: 'The policy has no channel "slak" (alerts.channels); did you mean "slack"?',
    })
    expect((await request(ctx, 'support', 'POST', '/api/ops/channels/slack/test')).status).toBe(403)
  })
})

describe('from the command line', () => {
  async function caretaker(ctx: Context, name: string, args: string[] = [], flags: Invocation['flags'] = {}): Promise<string> {
    const command = commands.find((one) => one.name === name)
    if (command === undefined) throw new Error(`no command ${name}`)
    let printed = ''
    const out: Invocation['out'] = {
      json: false,
      result: (_value, human) => {
        printed = human
      },
      line: () => undefined,
      progress: () => undefined,
    }
    await command.run({ args, flags, out, context: () => Promise.resolve(ctx) })
    return printed
  }

  it('lists what holds, why people were not told, and what waits to be', async () => {
    const { ctx } = world()
    expect(await caretaker(ctx, 'alerts list')).toContain('No condition holds.')
    await firing(ctx)
    const listed = await caretaker(ctx, 'alerts list')
    expect(listed).toMatch(/check-database +firing +P0 +database +2026-11-21 12:00 UTC +yes/)
    expect(listed).toContain('no: because of database')
    expect(listed).toMatch(/slack +opened: database/)
  })

  it('lists what is watched', async () => {
    const { ctx } = world()
    const listed = await caretaker(ctx, 'alerts rules')
    expect(listed).toMatch(/slow +P1 +slow +http\.p95 above 5 over 5 minutes, for 5 minutes +nowhere/)
    expect(listed).toContain('off (off)')
    expect(listed).toContain('check-database')
    expect(listed).toContain('gdpr.overdue')
  })

  it('silences and ends it', async () => {
    const { ctx } = world()
    expect(await caretaker(ctx, 'alerts silence', ['rule=backup*'], { for: '2h', reason: 'The bucket moves' })).toContain(
      'rule=backup* is silent until 2026-11-21 14:00 UTC',
    )
    expect(await caretaker(ctx, 'alerts silence', ['component=databse'], { for: '2h', reason: 'x' })).toContain(
      'Nothing that is watched matches it',
    )
    expect(await caretaker(ctx, 'alerts silence', ['database,region=eu'], { for: '2h', reason: 'x' })).not.toContain('Nothing')
    for (const { id, reason } of await listSilences(ctx)) if (reason === 'x') await caretaker(ctx, 'alerts unsilence', [id])
    const [silence] = await listSilences(ctx)
    await caretaker(ctx, 'alerts unsilence', [silence?.id ?? ''])
    expect(await listSilences(ctx)).toEqual([])
    await expect(caretaker(ctx, 'alerts silence', ['x'], { for: 'long', reason: 'y' })).rejects.toMatchObject({
      code: 'invalid_input',
      detail: expect.stringContaining('--for: found "long"'),
    })
    for (const [name, args] of [
      ['alerts silence', []],
      ['alerts unsilence', []],
      ['alerts test', []],
      ['alerts secret', []],
      ['alerts replay', []],
    ] as const)
      await expect(caretaker(ctx, name, [...args])).rejects.toMatchObject({ code: 'bad_request' })
    await expect(caretaker(ctx, 'alerts secret', ['slack'])).rejects.toMatchObject({ code: 'invalid_input' })
    expect(await caretaker(ctx, 'alerts secret', ['robot'])).toMatch(/^whsec_/)
  })

  it('replays a check over its history, and rules that only stand in a file', async () => {
    const { ctx } = world()
    await test.db.execute(
      `insert into caretaker.health_changes (environment, check_name, at, status, cause)
       values ($1, 'database', '2026-11-20T12:00:00Z', 'up', null), ($1, 'database', '2026-11-21T01:00:00Z', 'down', 'refused'),
         ($1, 'database', '2026-11-21T01:30:00Z', 'up', null), ($1, 'database', '2026-11-21T02:00:00Z', 'down', 'timeout'),
         ($1, 'database', '2026-11-21T11:55:00Z', 'up', null)`,
      [ctx.env.CARETAKER_ENVIRONMENT],
    )
    const told = await caretaker(ctx, 'alerts replay', [], { rule: 'database', since: '24h' })
    expect(told).toContain('check-database would have opened 1 incident and come back 1 times')
    expect(told).toMatch(/2026-11-21 01:00 UTC +35 min +new incident +0 +database: refused the connection/)
    expect(told).toMatch(/2026-11-21 02:00 UTC +10 h +the same again +2 +database: did not answer in time/)
    expect(told).toContain('Who acknowledged, who ended an incident by hand')
    await test.db.execute(
      `insert into caretaker.silences (environment, matchers, reason, created_by, created_at, ends_at) values
         ($1, '[{"key":"any","pattern":"database"}]', 'Work', '{"type":"cli"}', '2026-11-21T00:50:00Z', '2026-11-21T01:10:00Z'),
         ($1, '[{"key":"rule","pattern":"check-*"}]', 'Work', '{"type":"cli"}', '2026-11-21T02:00:00Z', '2026-11-22T02:00:00Z')`,
      [ctx.env.CARETAKER_ENVIRONMENT],
    )
    const quiet = await caretaker(ctx, 'alerts replay', [], { rule: 'database', since: '24h' })
    expect(quiet).toContain('opened 1 incident and come back 0 times')
    expect(quiet).toContain('It fired 1 more time, and was held back.')
    expect(quiet).toMatch(/2026-11-21 01:00 UTC +35 min +new incident +0 +database: refused the connection +silenced 10 min, then told/)
    expect(quiet).toMatch(/2026-11-21 02:00 UTC +10 h +nobody +0 +database: did not answer in time +silenced 10 h/)
    await expect(caretaker(ctx, 'alerts replay', [], { rule: 'databse' })).rejects.toMatchObject({
      code: 'not_found',
      detail: expect.stringContaining('did you mean "database"?'),
    })

    const folder = await mkdtemp(join(tmpdir(), 'caretaker-rule-'))
    const file = join(folder, 'rule.json')
    try {
      await writeFile(file, JSON.stringify({ name: 'errors', metric: 'http.error_rate', above: 0.05, severity: 'P0' }))
      expect(await caretaker(ctx, 'alerts replay', [], { rule: file, since: '2d' })).toContain('errors would have paged nobody')
      await writeFile(file, JSON.stringify({ name: 'errors', metric: 'http.error_rate', severity: 'P0' }))
      await expect(caretaker(ctx, 'alerts replay', [], { rule: file })).rejects.toMatchObject({
        detail: expect.stringContaining('expected either "above" or "below"'),
      })
      await writeFile(file, JSON.stringify({ name: 'errors', metric: 'http.error_rate', above: 5, severity: 'P0' }))
      await expect(caretaker(ctx, 'alerts replay', [], { rule: file })).rejects.toMatchObject({
        detail: expect.stringContaining('above: expected less than 1: "http.error_rate" is a share from 0 to 1'),
      })
    } finally {
      await rm(folder, { recursive: true })
    }
    expect(await caretaker(ctx, 'alerts replay', [], { rule: 'slow', since: '1d', above: '2', for: '10m' })).toContain('Known are 0 % of')
  })
})

it('the plan says of each rule, event and channel what is wrong with it', async () => {
  const { ctx } = alertContext(
    test.db,
    {
      channels: { slack: {}, robot: { kind: 'webhook' } },
      rules: [
        { name: 'slow', metric: 'app_latncy', above: 5, severity: 'P1' },
        { name: 'fine', metric: 'http.p95', above: 5, severity: 'P1' },
      ],
      events: { 'job.mised': false, 'order.stuck': { severity: 'P1' } },
    },
    {},
    {},
  )
  const lines = await planAlerts(ctx, ['http.p95', 'app_latency'])
  expect(lines.map(({ action, warnings }) => [action, ...(warnings ?? [])])).toEqual([
    ['watch slow', expect.stringContaining('tells "app_latncy"; did you mean "app_latency"?')],
    ['watch fine'],
    ['watch job.mised', expect.stringContaining('did you mean "job.missed"?')],
    ['watch order.stuck'],
    ['tell slack'],
    ['tell robot', expect.stringContaining('robot=… in ALERT_CHANNEL_SECRETS')],
  ])
})

it('what is over is kept for a while, and then it goes', async () => {
  const { ctx, minutes } = world()
  const seen = newWorld()
  seen.down.set('database', 'refused')
  await evaluateAlerts(ctx, sourcesOf(seen))
  await silence(ctx, { matcher: 'stripe', forMs: 3_600_000, reason: 'Their migration' })
  seen.down.clear()
  for (let look = 0; look < 7; look++) {
    minutes(1)
    await evaluateAlerts(ctx, sourcesOf(seen))
  }
  const mine = `environment = '${ctx.env.CARETAKER_ENVIRONMENT}'`
  await test.db.execute(`update caretaker.notifications set state = 'delivered' where kind <> 'resolved' and ${mine}`)
  const left = async () =>
    Promise.all(
      ['alerts', 'silences', 'notifications'].map(
        async (table) => (await test.db.query(`select from caretaker.${table} where ${mine}`)).length,
      ),
    )
  const before = await left()
  for (const what of ['alerts', 'silences', 'notifications'] as const) expect(await pruneAlerts(ctx, what, 1_000)).toBe(0)
  expect(await left()).toEqual(before)
  minutes(91 * 24 * 60)
  for (const what of ['alerts', 'silences', 'notifications'] as const) {
    const count = await countPrunableAlerts(ctx, what)
    expect(count).toBeGreaterThan(0)
    expect(await pruneAlerts(ctx, what, 1_000)).toBe(count)
  }
  // What still waits to be told stays.
  expect((await left()).slice(0, 2)).toEqual([0, 0])
  expect((await left())[2]).toBeGreaterThan(0)
})

describe('what is gone', () => {
  const day = 24 * 60
  // Those of the other tests would be gone as well.
  beforeEach(async () => {
    await test.db.execute('delete from caretaker.alert_evaluations')
  })
  const openOf = async (environment: string | undefined) => [
    (await test.db.query(`select from caretaker.alerts where environment = $1 and (state <> 'ok' or announced)`, [environment])).length,
    (await test.db.query(`select from caretaker.incidents where environment = $1 and state <> 'resolved'`, [environment])).length,
    (await test.db.query(`select from caretaker.notifications where environment = $1 and state = 'waiting'`, [environment])).length,
  ]

  it('is an environment that nobody has evaluated for two weeks: what is open there ends, and nobody is told', async () => {
    const preview = world()
    await firing(preview.ctx)
    const watcher = world()
    const forDays = async (days: number) => {
      preview.minutes(days * day)
      watcher.minutes(days * day)
      await evaluateAlerts(watcher.ctx, sourcesOf(newWorld()))
      const count = await countAbandoned(watcher.ctx)
      return [count, await endAbandoned(watcher.ctx, 1_000)]
    }
    const { CARETAKER_ENVIRONMENT: environment } = preview.ctx.env
    expect(await openOf(environment)).toEqual([2, 1, 3])
    expect(await forDays(13)).toEqual([0, 0])
    expect(await openOf(environment)).toEqual([2, 1, 3])
    expect(await forDays(2)).toEqual([3, 3])
    expect(await openOf(environment)).toEqual([0, 0, 0])
    expect(await forDays(0)).toEqual([0, 0])
    const [audit] = await test.db.query<{ detail: object }>(
      `select detail from caretaker.audit where action = 'alerts.environment_ended' and target = $1`,
      [environment],
    )
    expect(audit?.detail).toEqual({ alerts: 2, incidents: 1 })
    // Somebody deploys it again: what is wrong there is news.
    preview.minutes(day)
    await firing(preview.ctx)
    expect((await openOf(environment)).slice(0, 2)).toEqual([2, 1])
    expect(await listIncidents(preview.ctx)).toMatchObject([
      { number: 2, state: 'investigating' },
      { number: 1, state: 'resolved' },
    ])
  })

  it('is never production, however long nobody has looked', async () => {
    const production = alertContext(test.db, {}, {}, { CARETAKER_ENVIRONMENT: 'production' })
    await firing(production.ctx)
    const watcher = world()
    watcher.minutes(400 * day)
    expect([await countAbandoned(watcher.ctx), await endAbandoned(watcher.ctx, 1_000)]).toEqual([0, 0])
    expect((await openOf('production')).slice(0, 2)).toEqual([2, 1])
  })

  it('is a deployment whose alerts nobody looks at any more, while others of its environment do: those who were told hear the end', async () => {
    const old = alertContext(test.db, { channels: { slack: {} } }, {}, { CARETAKER_DEPLOYMENT: 'old' })
    await firing(old.ctx)
    const { CARETAKER_ENVIRONMENT: environment = '' } = old.ctx.env
    const other = alertContext(
      test.db,
      { channels: { slack: {} } },
      {},
      { CARETAKER_ENVIRONMENT: environment, CARETAKER_DEPLOYMENT: 'new' },
    )
    other.minutes(15 * day)
    // Nobody looks at all: nobody knows whose is gone.
    expect(await endAbandoned(other.ctx, 1_000)).toBe(0)
    await evaluateAlerts(other.ctx, sourcesOf(newWorld([])))
    expect([await countAbandoned(other.ctx), await endAbandoned(other.ctx, 1_000)]).toEqual([2, 2])
    expect(await listIncidents(other.ctx)).toMatchObject([{ state: 'resolved' }])
    const told = await test.db.query<{ kind: string }>('select kind from caretaker.notifications where environment = $1 order by id', [
      environment,
    ])
    expect(told.map(({ kind }) => kind)).toEqual(expect.arrayContaining(['opened', 'resolved']))
  })
})

it('what the catalogue hands in is what there is', async () => {
  const { ctx } = world()
  expect((await evaluateAlerts(ctx, alertSources)).evaluated).toBe(true)
  const announced = await scheduleMaintenance(ctx, { title: 'Disks', endsAt: new Date('2026-11-21T13:00:00Z') })
  const day = { from: new Date('2026-11-21T00:00:00Z'), to: new Date('2026-11-22T00:00:00Z') }
  expect(await alertSources.maintenanceBetween(ctx, day)).toMatchObject([{ id: announced.id, components: 'all', endsAt: announced.endsAt }])
  expect(await alertSources.words('refused')).toBe('refused the connection')
  expect(await alertSources.words('something else')).toBe('something else')
})
