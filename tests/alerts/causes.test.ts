import { describe, expect, it } from 'vitest'
import {
  acknowledgeIncident,
  describeEvent,
  evaluateAlerts,
  listAlerts,
  listIncidents,
  listNotifications,
  openIncident,
  publicIncidents,
  resolveIncident,
  sendNotifications,
  setSeverity,
  showIncident,
  silence,
} from '../../lib/alerts/index.ts'
import type { PolicyInput } from '../../lib/config/index.ts'
import { pagerDutyApi, pagerDutyState } from '../doubles/pagerduty.ts'
import { slackApi, slackState } from '../doubles/slack.ts'
import { useTestDatabase } from '../support/database.ts'
import { doubles } from '../support/doubles.ts'
import { alertContext, newWorld, sourcesOf } from './world.ts'

const test = useTestDatabase()

function watched(alerts: PolicyInput['alerts'] = {}, checks?: string[], more: Partial<PolicyInput> = {}) {
  const { ctx, minutes } = alertContext(test.db, { keepFiringFor: '1 minute', ...alerts }, more)
  const world = newWorld(checks)
  const sources = sourcesOf(world)
  return {
    ctx,
    world,
    /** What fails now, and a minute passes. */
    async minute(...failing: string[]) {
      world.down = new Map(failing.map((check) => [check, 'timeout']))
      await evaluateAlerts(ctx, sources)
      minutes(1)
    },
    /** "opened jobs", in order, without what time tells. */
    async told() {
      const all = (await listNotifications(ctx, { limit: 1_000 })).reverse()
      return all
        .filter(({ kind }) => !['watching', 'escalation', 'reminder'].includes(kind))
        .map(({ kind, channel, payload }) => `${kind} ${payload.component}${channel === 'slack' ? '' : ` on ${channel}`}`)
    },
    async incidents() {
      const all = await listIncidents(ctx)
      return Object.fromEntries(
        all.map(({ number, component, state, partOf }) => [`#${number} ${component}`, partOf === null ? state : `part of #${partOf}`]),
      )
    },
  }
}

const open = 'investigating'

describe('a consequence that is seen before its cause', () => {
  it('becomes a part of the incident of its cause, and is told for itself again if it outlasts it', async () => {
    const { ctx, minute, told, incidents } = watched({ channels: { slack: {}, pagerduty: {} } })
    const slack = slackState()
    const pagerDuty = pagerDutyState()
    doubles.use(...slackApi(slack), ...pagerDutyApi(pagerDuty))
    const send = () => sendNotifications(ctx, { pause: () => Promise.resolve() })
    await minute('jobs')
    await send()
    await minute('jobs', 'backup', 'database')
    await minute('jobs', 'backup', 'database')
    await send()
    expect(await incidents()).toEqual({ '#1 jobs': 'part of #2', '#2 database': open })
    expect(slack.sent.map(({ text }) => text.replace(/^.*?\): /, ''))).toEqual([
      'jobs: is in trouble (timeout)',
      'database: is in trouble (timeout)',
      'Part of #2: jobs: is in trouble (timeout)',
    ])
    expect(slack.sent[1]?.body).toContain('*Takes over:* #1')
    expect(slack.sent[1]?.body).toContain('*Also affected:* backup, jobs')
    // The pager knows of one that is triggered.
    expect(pagerDuty.incidents.map(({ state }) => state)).toEqual(['resolved', 'triggered'])
    expect(await listAlerts(ctx)).toMatchObject([
      { component: 'jobs', withheld: 'inhibited', announced: false, root: 'database' },
      { component: 'backup', withheld: 'inhibited' },
      { component: 'database', announced: true },
    ])
    const part = await showIncident(ctx, '1')
    expect(part.incident).toMatchObject({ partOf: 2, state: 'resolved', nextReminderAt: null })
    expect(part.timeline.map(describeEvent).slice(-2)).toEqual(['alert check-jobs comes from database', 'ended as part of #2'])
    expect((await showIncident(ctx, '2')).timeline.map(describeEvent)).toContain('takes over #1 (jobs)')
    await expect(acknowledgeIncident(ctx, { incident: '1' })).rejects.toMatchObject({
      code: 'conflict',
      detail: 'Incident 1 is part of incident 2, which speaks for both.',
    })

    await minute('jobs')
    await minute('jobs')
    expect(await incidents()).toEqual({ '#1 jobs': open, '#2 database': 'resolved' })
    expect((await told()).filter((one) => !one.includes('pagerduty'))).toEqual([
      ...['opened jobs', 'opened database', 'resolved jobs'],
      ...['reopened jobs', 'resolved database'],
    ])
    // It would come and go with its cause, a page each time.
    await minute('jobs', 'database')
    expect(await incidents()).toEqual({ '#1 jobs': open, '#2 database': open })
  })

  it('is over with its cause where it is well by then, and nobody hears of it again', async () => {
    const { minute, told, incidents } = watched()
    await minute('supabase-auth')
    await minute('supabase-auth', 'supabase')
    for (let look = 0; look < 3; look++) await minute()
    expect(await incidents()).toEqual({ '#1 supabase-auth': 'part of #2', '#2 supabase': 'resolved' })
    expect(await told()).toEqual(['opened supabase-auth', 'opened supabase', 'resolved supabase-auth', 'resolved supabase'])
  })

  it('is one of a chain of causes, each seen after the other', async () => {
    const { world, minute, incidents, told } = watched({}, ['dns', 'supabase', 'supabase-auth'])
    world.tree = new Map([
      ['supabase', ['dns']],
      ['supabase-auth', ['supabase', 'dns']],
    ])
    await minute('supabase-auth')
    await minute('supabase-auth', 'supabase')
    await minute('supabase-auth', 'supabase', 'dns')
    expect(await incidents()).toEqual({ '#1 supabase-auth': 'part of #2', '#2 supabase': 'part of #3', '#3 dns': open })
    expect((await told()).slice(3)).toEqual(['opened dns', 'resolved supabase'])
  })

  it('gives its cause its severity, its channels, its place on the status page and its clock', async () => {
    const { ctx, world, minute, told } = watched(
      {
        channels: { slack: {}, pagerduty: {} },
        checks: { 'supabase-auth': { severity: 'high', notify: ['pagerduty'] }, supabase: { severity: 'low' } },
      },
      undefined,
      {
        incidents: {
          severities: {
            high: { escalateAfter: '1 hour', escalateTo: ['slack'], public: true },
            low: { notify: ['slack'], respondWithin: '1 day' },
          },
        },
      },
    )
    world.critical.clear()
    await minute('supabase-auth')
    await minute('supabase-auth', 'supabase')
    expect(await told()).toEqual([
      'opened supabase-auth on pagerduty',
      ...['opened supabase', 'opened supabase on pagerduty'],
      'resolved supabase-auth on pagerduty',
    ])
    const [whole, part] = await listIncidents(ctx)
    expect(whole).toMatchObject({ severity: 'high', public: true, escalateAt: part?.escalateAt })
    expect(await publicIncidents(ctx)).toMatchObject([
      { id: whole?.id, partOf: null },
      { id: part?.id, partOf: whole?.id, updates: [{ body: 'This is part of another incident, which we are working on.' }, {}] },
    ])
  })

  it('that shows with its cause or after it asks for nobody less than it would have by itself, and is no second page', async () => {
    const severities = { high: {}, low: { notify: ['slack'] }, least: { notify: [] } }
    const policy = {
      channels: { slack: {}, pagerduty: {}, email: { to: ['team@shop.test'] } },
      rules: [
        { name: 'checkout', metric: 'http.error_rate', above: 0.1, severity: 'high', dependsOn: ['stripe'], notify: ['pagerduty'] },
        { name: 'carts', metric: 'http.p95', above: 5, severity: 'low', dependsOn: ['stripe'], notify: ['email'] },
        { name: 'robots', metric: 'http.p99', above: 5, severity: 'high', dependsOn: ['stripe'], notify: [] },
      ],
      checks: { stripe: { severity: 'least' } },
    }
    const { ctx, world, minute, told, incidents } = watched(policy, undefined, { incidents: { severities } })
    world.figures.set('http.error_rate', [{ labels: {}, value: 1, samples: 99 }])
    await minute('stripe')
    expect(await incidents()).toEqual({ '#1 stripe': open })
    expect(await told()).toContain('opened stripe on pagerduty')
    const heard = (await told()).length
    await setSeverity(ctx, { incident: '1', severity: 'low' })
    world.figures.set('http.p95', [{ labels: {}, value: 9, samples: 99 }])
    for (let look = 0; look < 2; look++) await minute('stripe')
    expect((await told()).slice(heard)).toEqual(['opened stripe on email'])
    // What a person decided stands, and what nobody is to be told of raises nothing.
    world.figures.set('http.p99', [{ labels: {}, value: 9, samples: 99 }])
    await minute('stripe')
    expect((await listIncidents(ctx))[0]).toMatchObject({ severity: 'low', component: 'stripe' })

    const quiet = watched(policy, undefined, { incidents: { severities } })
    await silence(quiet.ctx, { matcher: 'checkout', forMs: 3_600_000, reason: 'We know' })
    quiet.world.figures.set('http.error_rate', [{ labels: {}, value: 1, samples: 99 }])
    await quiet.minute('stripe')
    expect(await quiet.told()).toEqual([])
  })

  it('that is more severe brings its cause back to whoever ended that, once', async () => {
    const { ctx, world, minute, told } = watched({
      rules: [{ name: 'checkout', metric: 'http.error_rate', above: 0.1, severity: 'P0', dependsOn: ['stripe'] }],
    })
    await minute('stripe')
    await resolveIncident(ctx, { incident: '1' })
    await minute('stripe')
    world.figures.set('http.error_rate', [{ labels: {}, value: 1, samples: 99 }])
    await minute('stripe')
    expect(await told()).toEqual(['opened stripe', 'resolved stripe', 'reopened stripe'])
    expect(await listIncidents(ctx)).toMatchObject([{ number: 1, severity: 'P0', state: open }])
    expect((await showIncident(ctx, '1')).timeline.map(describeEvent)).toContain('came back (alert checkout); told slack')
    await resolveIncident(ctx, { incident: '1' })
    for (let look = 0; look < 2; look++) await minute('stripe')
    expect((await told()).slice(3)).toEqual(['resolved stripe'])
  })

  it('makes its cause no more severe where nobody was to be told of it', async () => {
    const { ctx, minute, told } = watched({ checks: { jobs: { severity: 'P0', notify: [] }, database: { severity: 'P2' } } })
    await minute('jobs')
    await minute('jobs', 'database')
    expect(await told()).toEqual(['opened database'])
    expect((await listIncidents(ctx, { state: 'open' })).map(({ severity }) => severity)).toEqual(['P2'])
  })

  it('is told for itself though a version from before there were parts brought it back', async () => {
    const { ctx, minute, incidents } = watched()
    await minute('jobs')
    await minute('jobs', 'database')
    await test.db.execute(
      `update caretaker.incidents set state = 'investigating', resolved_at = null where environment = $1 and number = 1`,
      [ctx.env.CARETAKER_ENVIRONMENT],
    )
    expect(await incidents()).toEqual({ '#1 jobs': open, '#2 database': open })
    await expect(acknowledgeIncident(ctx, { incident: '1' })).resolves.toMatchObject({ number: 1, partOf: null })
  })

  it('joins the incident that a person has opened of its cause', async () => {
    const { ctx, minute, told, incidents } = watched()
    await minute('jobs')
    await openIncident(ctx, { title: 'The database is slow', severity: 'P1', component: 'database' })
    await minute('jobs')
    expect(await incidents()).toMatchObject({ '#1 jobs': open })
    await minute('jobs', 'database')
    expect(await incidents()).toEqual({ '#1 jobs': 'part of #2', '#2 database': open })
    expect(await told()).toEqual(['opened jobs', 'opened database', 'raised database', 'resolved jobs'])
  })

  it('keeps its own where a person opened it, where its cause is told to nobody, and where another alert of it is none', async () => {
    const quiet = watched({ checks: { database: { notify: [] } } })
    await quiet.minute('jobs')
    await quiet.minute('jobs', 'database')
    expect(await quiet.incidents()).toEqual({ '#1 jobs': open, '#2 database': open })
    expect(await quiet.told()).toEqual(['opened jobs'])

    const silenced = watched()
    await silence(silenced.ctx, { matcher: 'component=database', forMs: 3_600_000, reason: 'We know' })
    await silenced.minute('jobs')
    await silenced.minute('jobs', 'database')
    expect(await silenced.incidents()).toEqual({ '#1 jobs': open })

    const manual = watched()
    await openIncident(manual.ctx, { title: 'Jobs are late', severity: 'P2', component: 'jobs' })
    await manual.minute('jobs')
    await manual.minute('jobs', 'database')
    expect(await manual.incidents()).toEqual({ '#1 jobs': open, '#2 database': open })

    const mixed = watched({
      rules: [
        { name: 'logins', metric: 'auth.failed', above: 10, severity: 'P1', component: 'sign-in', dependsOn: ['supabase'] },
        { name: 'robots', metric: 'http.error_rate', above: 0.1, severity: 'P1', component: 'sign-in' },
      ],
    })
    for (const metric of ['auth.failed', 'http.error_rate']) mixed.world.figures.set(metric, [{ labels: {}, value: 99, samples: 99 }])
    await mixed.minute()
    await mixed.minute('supabase')
    expect(await mixed.incidents()).toEqual({ '#1 sign-in': open, '#2 supabase': open })
    // When that one is over, nothing of it is its own cause.
    mixed.world.figures.set('http.error_rate', [{ labels: {}, value: 0, samples: 99 }])
    for (let look = 0; look < 2; look++) await mixed.minute('supabase')
    expect(await mixed.incidents()).toEqual({ '#1 sign-in': 'part of #2', '#2 supabase': open })
  })

  it('that a person has ended is not brought back while its cause explains it', async () => {
    const { ctx, minute, incidents } = watched({ remindEvery: '10 minutes' })
    await minute('jobs')
    await resolveIncident(ctx, { incident: '1' })
    for (let look = 0; look < 14; look++) await minute('jobs', 'database')
    expect(await incidents()).toEqual({ '#1 jobs': 'resolved', '#2 database': open })
    for (let look = 0; look < 2; look++) await minute('jobs')
    expect(Object.keys(await incidents())).toEqual(['#3 jobs', '#2 database', '#1 jobs'])
  })

  it('is merged once, by two evaluations at once', async () => {
    const { ctx, world, minute, told } = watched()
    await minute('jobs')
    world.down.set('database', 'timeout')
    await Promise.all([evaluateAlerts(ctx, sourcesOf(world)), evaluateAlerts({ ...ctx }, sourcesOf(world))])
    await minute('jobs', 'database')
    expect(await told()).toEqual(['opened jobs', 'opened database', 'resolved jobs'])
    const actions = await test.db.query<{ action: string }>(
      `select action from caretaker.audit a join caretaker.incidents i on a.target = i.id::text where i.environment = $1 order by seq`,
      [ctx.env.CARETAKER_ENVIRONMENT],
    )
    expect(actions.map(({ action }) => action)).toEqual(['incident.opened', 'incident.opened', 'incident.merged'])
  })
})

const parties = ['hume', 'make', 'openai', 'posthog', 'stripe', 'twilio', 'webflow']

describe('many that begin to fail together', () => {
  it('are one incident with the greatest severity of them, told to everybody whom one of them asks for, until all are well', async () => {
    const { ctx, minute, told, incidents } = watched(
      {
        channels: { slack: {}, pagerduty: {}, email: { to: ['team@shop.test'] } },
        checks: { stripe: { severity: 'P0' }, openai: { notify: ['email'] }, hume: { notify: [] } },
      },
      [...parties, 'database'],
      { incidents: { severities: { P0: { notify: ['pagerduty'] }, P1: {}, P2: { notify: ['slack'] }, P3: {} } } },
    )
    await minute(...parties)
    const quiet = ['opened several-dependencies', 'opened several-dependencies on email', 'opened several-dependencies on pagerduty']
    expect((await told()).sort()).toEqual(quiet)
    // What nobody is to be told of stays out of it.
    expect(await incidents()).toEqual({ '#1 hume': open, '#2 several-dependencies': open })
    const { incident, alerts } = await showIncident(ctx, '2')
    expect(incident).toMatchObject({
      title: '6 dependencies began to fail together: stripe, make, openai, posthog, twilio, webflow',
      severity: 'P0',
      affected: parties.slice(1),
    })
    expect(alerts.map(({ component }) => component).sort()).toEqual(parties.slice(1))
    const [message] = await listNotifications(ctx)
    for (const name of parties.slice(1)) expect(message?.payload.summary).toContain(`${name}: is in trouble`)

    await minute('stripe', 'openai', 'make')
    await minute()
    expect(await incidents()).toMatchObject({ '#2 several-dependencies': open })
    await minute()
    expect(await incidents()).toEqual({ '#1 hume': 'resolved', '#2 several-dependencies': 'resolved' })
    expect((await told()).slice(3).sort()).toEqual(quiet.map((one) => one.replace('opened', 'resolved')))
  })

  it('take over the incidents of those that were seen a minute before', async () => {
    const { minute, told, incidents } = watched({}, parties)
    await minute('stripe', 'twilio')
    await minute(...parties)
    expect(await incidents()).toEqual({ '#1 stripe': 'part of #3', '#2 twilio': 'part of #3', '#3 several-dependencies': open })
    expect(await told()).toEqual(['opened stripe', 'opened twilio', 'opened several-dependencies', 'resolved stripe', 'resolved twilio'])
  })

  it('are told of what joins them a minute later, once, and of what comes back to them not at all', async () => {
    const { minute, told, incidents } = watched({ keepFiringFor: '1 minute' }, parties)
    const many = parties.slice(0, 6)
    await minute(...many)
    await minute(...parties)
    for (let turn = 0; turn < 3; turn++) {
      for (let look = 0; look < 3; look++) await minute(...many)
      await minute(...parties)
    }
    expect(await incidents()).toEqual({ '#1 several-dependencies': open })
    expect(await told()).toEqual(['opened several-dependencies', 'update several-dependencies'])
  })

  it('are told of what comes back to them after a reminder period', async () => {
    const { minute, told } = watched({ keepFiringFor: '1 minute', remindEvery: '5 minutes' }, parties)
    await minute(...parties)
    for (let look = 0; look < 7; look++) await minute(...parties.slice(1))
    await minute(...parties)
    expect(await told()).toEqual(['opened several-dependencies', 'update several-dependencies'])
  })

  it('leave an incident of its own to the one that stays broken long after the others are well', async () => {
    const { ctx, minute, told, incidents } = watched({}, parties)
    await minute(...parties)
    await minute('stripe', 'twilio')
    await minute('stripe')
    // One is well, and not yet for long enough.
    expect(await incidents()).toEqual({ '#1 several-dependencies': open, '#2 stripe': open })
    await minute('stripe')
    expect(await incidents()).toEqual({ '#1 several-dependencies': 'resolved', '#2 stripe': open })
    expect(await told()).toEqual(['opened several-dependencies', 'opened stripe', 'resolved several-dependencies'])
    const [ended] = await listNotifications(ctx)
    expect(ended?.payload.text).toBe('Still wrong, each told for itself: #2 stripe')
    for (let look = 0; look < 2; look++) await minute()
    // They come back together: it is the same again.
    await minute(...parties.slice(0, 5))
    expect(await incidents()).toEqual({ '#1 several-dependencies': open, '#2 stripe': 'resolved' })
    expect((await told()).slice(3)).toEqual(['resolved stripe', 'reopened several-dependencies'])
    expect((await listIncidents(ctx, { state: 'open' }))[0]?.title).toContain('5 dependencies began to fail together: hume, make')
  })

  it('become a part of the incident of what they all stand on, and explain what stands on them', async () => {
    const { world, minute, incidents } = watched({}, [...parties, 'dns', 'checkout'])
    world.tree = new Map([['checkout', ['stripe', 'dns']], ...parties.map((name): [string, string[]] => [name, ['dns']])])
    await minute(...parties, 'checkout')
    expect(await incidents()).toEqual({ '#1 several-dependencies': open })
    await minute(...parties, 'checkout', 'dns')
    expect(await incidents()).toEqual({ '#1 several-dependencies': 'part of #2', '#2 dns': open })
  })

  it('are as many as the policy says, and none of a kind where it says false', async () => {
    const few = watched({ storm: { atLeast: 2, within: '1 minute' } }, parties)
    await few.minute('stripe', 'twilio')
    expect(await few.incidents()).toEqual({ '#1 several-dependencies': open })
    const none = watched({ storm: false }, parties)
    await none.minute(...parties)
    expect(Object.keys(await none.incidents())).toHaveLength(parties.length)
  })
})
