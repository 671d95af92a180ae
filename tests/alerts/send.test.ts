import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { HttpResponse, http } from 'msw'
import { Webhook } from 'standardwebhooks'
import { afterEach, describe, expect, it } from 'vitest'
import {
  enqueueNotification,
  listNotifications,
  type NotificationKind,
  sendNotifications,
  showChannelSecret,
} from '../../lib/alerts/index.ts'
import type { PolicyInput } from '../../lib/config/index.ts'
import type { Context } from '../../lib/platform/context.ts'
import { opsgenieApi, opsgenieState } from '../doubles/opsgenie.ts'
import { pagerDutyApi, pagerDutyState } from '../doubles/pagerduty.ts'
import { type MailState, sendgridMail } from '../doubles/sendgrid-mail.ts'
import { slackApi, slackState } from '../doubles/slack.ts'
import { logLines } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'
import { doubles } from '../support/doubles.ts'
import { alertContext } from './world.ts'

const test = useTestDatabase()

const payload = {
  number: 12,
  title: 'database: refused the connection',
  component: 'database',
  summary: 'database: refused the connection\ndatabase <pool> & more',
  since: '2026-11-21T11:58:00.000Z',
  affected: ['backup', 'jobs'],
  runbook: 'https://runbooks.shop.test/database?a=1|2',
  respondBy: '2026-11-21T12:13:00.000Z',
}

let told = 0
async function tell(ctx: Context, kind: NotificationKind, channels: string[], incident: string = crypto.randomUUID(), severity = 'P0') {
  told++
  await test.db.transaction((tx) => enqueueNotification(tx, ctx, { incident, kind, severity, channels, key: `${kind}:${told}`, payload }))
  return incident
}

const states = async (ctx: Context) => (await listNotifications(ctx)).map(({ kind, state }) => `${kind} ${state}`).reverse()

function world(channels: NonNullable<NonNullable<PolicyInput['alerts']>['channels']>, env: Record<string, string> = {}) {
  const made = alertContext(test.db, { channels }, {}, env)
  const slack = slackState()
  const pagerDuty = pagerDutyState()
  const opsgenie = opsgenieState()
  const mail: MailState = { key: 'SG.key-of-the-test', sender: 'ops@shop.test', sent: [] }
  doubles.use(...slackApi(slack), ...pagerDutyApi(pagerDuty), ...opsgenieApi(opsgenie), ...sendgridMail(mail))
  const pauses: number[] = []
  const pause = (ms: number) => {
    pauses.push(ms)
    made.minutes(ms / 60_000)
    return Promise.resolve()
  }
  const send = () => sendNotifications(made.ctx, { pause })
  return { ...made, slack, pagerDuty, opsgenie, mail, pauses, send }
}

describe('a message', () => {
  it('says in one glance what is wrong, since when, what else suffers, and what to do', async () => {
    const { ctx, send, slack, mail } = world({ slack: {}, email: { to: ['on-call@shop.test'] } })
    const incident = await tell(ctx, 'opened', ['slack', 'email'])
    expect(await send()).toEqual({ delivered: 2, failed: 0, dead: 0, superseded: 0 })
    const environment = ctx.env.CARETAKER_ENVIRONMENT
    expect(slack.sent).toEqual([
      {
        text: `[P0] Shop (${environment}): database: refused the connection`,
        body: [
          '*Since:* 2026-11-21 11:58 UTC',
          '*What:* database: refused the connection\ndatabase &lt;pool&gt; &amp; more',
          '*Also affected:* backup, jobs',
          '*Respond by:* 2026-11-21 12:13 UTC',
          '*Runbook:* <https://runbooks.shop.test/database?a=1%7C2|https://runbooks.shop.test/database?a=1/2>',
          `*Incident:* <https://ops.shop.test/ops/incidents/${incident}|#12>`,
        ].join('\n'),
      },
    ])
    expect(mail.sent).toMatchObject([{ to: 'on-call@shop.test', subject: `[P0] Shop (${environment}): database: refused the connection` }])
    expect(mail.sent[0]?.text).toContain(`Incident: #12 https://ops.shop.test/ops/incidents/${incident}`)
  })

  it('is one incident at PagerDuty and Opsgenie from its beginning to its end', async () => {
    const { ctx, send, pagerDuty, opsgenie } = world({ pagerduty: {}, opsgenie: {} })
    const incident = await tell(ctx, 'opened', ['pagerduty', 'opsgenie'])
    await send()
    expect(pagerDuty.incidents).toMatchObject([{ key: incident, state: 'triggered', severity: 'critical' }])
    expect(opsgenie.alerts).toMatchObject([{ alias: incident, state: 'open', priority: 'P1' }])
    await tell(ctx, 'reminder', ['pagerduty', 'opsgenie'], incident)
    await tell(ctx, 'update', ['pagerduty', 'opsgenie'], incident)
    await tell(ctx, 'acknowledged', ['pagerduty', 'opsgenie'], incident)
    await send()
    expect(pagerDuty.incidents).toMatchObject([{ key: incident, state: 'acknowledged', repeats: 1 }])
    expect(opsgenie.alerts).toMatchObject([{ alias: incident, state: 'acknowledged', count: 2 }])
    await tell(ctx, 'resolved', ['pagerduty', 'opsgenie'], incident)
    await send()
    expect(pagerDuty.incidents).toMatchObject([{ state: 'resolved' }])
    expect(opsgenie.alerts).toMatchObject([{ state: 'closed' }])
    expect(await states(ctx)).not.toContain('resolved waiting')
  })

  it('of any length is cut to what the channel takes', async () => {
    const { ctx, send } = world({ slack: {}, pagerduty: {}, opsgenie: {}, email: { to: ['on-call@shop.test'] } })
    const long = {
      ...payload,
      title: 'x'.repeat(5_000),
      summary: '&'.repeat(9_000),
      affected: Array.from({ length: 900 }, (_, n) => `part-${n}`),
    }
    await test.db.transaction((tx) =>
      enqueueNotification(tx, ctx, {
        ...{ incident: crypto.randomUUID(), kind: 'opened', severity: 'P3' },
        channels: ['slack', 'pagerduty', 'opsgenie', 'email'],
        payload: long,
      }),
    )
    expect(await send()).toMatchObject({ delivered: 4, failed: 0 })
  })

  it('mentions nobody, ends no header and says where to look, whatever the app and its webhooks have put into it', async () => {
    const { ctx, send, slack, mail, pagerDuty } = world({ slack: {}, pagerduty: {}, opsgenie: {}, email: { to: ['on-call@shop.test'] } })
    const hostile = '<!channel> <@U0> <https://evil.test|Sign in> @here\r\nBcc: all@shop.test\u0000'
    const parts = Array.from({ length: 40 }, (_, n) => `<part&${n}>`)
    await test.db.transaction((tx) =>
      enqueueNotification(tx, ctx, {
        ...{ incident: crypto.randomUUID(), kind: 'opened', severity: 'P3', channels: ['slack', 'pagerduty', 'opsgenie', 'email'] },
        // PostgreSQL keeps no NUL: it cannot come from there.
        payload: {
          ...payload,
          title: hostile.replace('\0', '\u0001'),
          summary: '<&>'.repeat(2_000),
          text: '<!here>'.repeat(500),
          affected: parts,
        },
      }),
    )
    expect(await send()).toMatchObject({ delivered: 4, failed: 0 })
    const [message] = slack.sent
    // The double refuses what mentions somebody. What is long leaves room for what is to be done.
    expect(message?.body).toContain('*Runbook:* <https://runbooks.shop.test/database?a=1%7C2|')
    expect(message?.body).toContain('*Incident:* <https://ops.shop.test/ops/incidents/')
    expect(`${message?.text}${message?.body}`).not.toMatch(/&(?!amp;|lt;|gt;)/)
    for (const line of [mail.sent[0]?.subject, pagerDuty.incidents[0]?.summary]) {
      expect(line).toContain('<!channel>')
      expect(line).not.toMatch(/\p{Cc}/u)
    }
  })

  it('is cut between characters', async () => {
    const { ctx, send, slack, mail } = world({ slack: {}, email: { to: ['on-call@shop.test'] } })
    for (const title of ['🛒'.repeat(4_000), `x${'🛒'.repeat(4_000)}`])
      await test.db.transaction((tx) =>
        enqueueNotification(tx, ctx, {
          ...{ incident: crypto.randomUUID(), kind: 'opened', severity: 'P3', channels: ['slack', 'email'] },
          payload: { ...payload, title, summary: `${title}!` },
        }),
      )
    expect(await send()).toMatchObject({ delivered: 4 })
    for (const text of [...slack.sent.flatMap(({ text, body }) => [text, body]), ...mail.sent.map(({ subject }) => subject)]) {
      expect(text.isWellFormed()).toBe(true)
      expect(text).not.toContain('\ufffd')
    }
  })

  it('to another name goes to the address and with the key that stand under it', async () => {
    const { ctx, send, slack } = world(
      { 'slack-critical': { kind: 'slack' } },
      { ALERT_CHANNEL_SECRETS: 'slack-critical=https://hooks.slack.com/services/T0/B0/other' },
    )
    slack.path = '/services/T0/B0/other'
    await tell(ctx, 'opened', ['slack-critical'])
    expect(await send()).toMatchObject({ delivered: 1 })
  })
})

describe('a generic webhook', () => {
  const servers: { close(): unknown }[] = []
  afterEach(() => {
    for (const server of servers.splice(0)) server.close()
  })

  it('is signed so that the library of Standard Webhooks accepts it', async () => {
    const received: { headers: Record<string, string>; body: string }[] = []
    const server = createServer((request, response) => {
      let body = ''
      request.on('data', (chunk: Buffer) => {
        body += chunk.toString()
      })
      request.on('end', () => {
        received.push({ headers: request.headers as Record<string, string>, body })
        response.writeHead(204).end()
      })
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    servers.push(server)
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`
    const { ctx, send } = world({ robot: { kind: 'webhook', url, allowPrivate: true } })
    // The library goes by the time of this machine.
    const now = { ...ctx, clock: { ...ctx.clock, now: () => new Date() }, deadline: new Date(Date.now() + 60_000) }
    const incident = await tell(now, 'opened', ['robot'])
    expect(await sendNotifications(now)).toMatchObject({ delivered: 1 })
    const [first] = received
    const verified = new Webhook(await showChannelSecret(ctx, 'robot')).verify(first?.body ?? '', first?.headers ?? {})
    expect(verified).toMatchObject({
      type: 'incident.opened',
      data: { incident, app: 'Shop', severity: 'P0', title: payload.title, affected: ['backup', 'jobs'] },
    })
    expect(await send()).toMatchObject({ delivered: 0 })
  })

  it('to a private address is refused unless that is meant', async () => {
    const { ctx, send } = world({ robot: { kind: 'webhook', url: 'https://127.0.0.1/hook' } })
    await tell(ctx, 'opened', ['robot'])
    expect(await send()).toMatchObject({ delivered: 0, failed: 1 })
    expect((await listNotifications(ctx))[0]).toMatchObject({ state: 'waiting', error: { code: 'address_refused' } })
  })
})

describe('what cannot be delivered', () => {
  it('waits, longer each time, and not less than the channel asks for; the other channels do not wait for it', async () => {
    const { ctx, send, slack, pagerDuty, minutes } = world({ slack: {}, pagerduty: {} })
    slack.failWith = 429
    slack.retryAfter = '600'
    await tell(ctx, 'opened', ['slack', 'pagerduty'])
    await tell(ctx, 'opened', ['slack', 'pagerduty'])
    expect(await send()).toEqual({ delivered: 2, failed: 1, dead: 0, superseded: 0 })
    expect(pagerDuty.incidents).toHaveLength(2)
    delete slack.failWith
    minutes(9)
    expect(await send()).toMatchObject({ delivered: 0, failed: 0 })
    minutes(1)
    expect(await send()).toMatchObject({ delivered: 2, failed: 0 })
    expect(slack.sent).toHaveLength(2)
  })

  it.each([
    ['a date', () => new Date(Date.UTC(2026, 10, 21, 12, 10)).toUTCString(), 9],
    ['more than an hour', () => '86400', 59],
    ['nothing that is a time', () => 'soon', 0],
  ])('waits as long as Retry-After says, where it is %s', async (_what, retryAfter, waits) => {
    const { ctx, send, slack, minutes } = world({ slack: {} })
    slack.failWith = 429
    slack.retryAfter = retryAfter()
    await tell(ctx, 'opened', ['slack'])
    expect(await send()).toMatchObject({ failed: 1 })
    delete slack.failWith
    if (waits > 0) {
      minutes(waits)
      expect(await send()).toMatchObject({ delivered: 0 })
    }
    minutes(1)
    expect(await send()).toMatchObject({ delivered: 1 })
  })

  it('is not carried on to where a redirect points', async () => {
    const { ctx, send } = world({ slack: {} })
    const asked: string[] = []
    doubles.use(
      http.post('https://hooks.slack.com/services/*', () => HttpResponse.redirect('http://169.254.169.254/latest/meta-data', 307)),
      http.all('http://169.254.169.254/*', ({ request }) => {
        asked.push(request.url)
        return HttpResponse.text('secret')
      }),
    )
    await tell(ctx, 'opened', ['slack'])
    expect(await send()).toMatchObject({ delivered: 0, failed: 1 })
    expect(asked).toEqual([])
    expect((await listNotifications(ctx))[0]).toMatchObject({ state: 'waiting', error: { code: 'unreachable' } })
  })

  it('keeps its order within an incident, and lets other incidents pass', async () => {
    const { ctx, send, opsgenie, minutes } = world({ opsgenie: {} })
    const first = await tell(ctx, 'opened', ['opsgenie'])
    await tell(ctx, 'acknowledged', ['opsgenie'], first)
    opsgenie.failWith = 422
    expect(await send()).toMatchObject({ delivered: 0, failed: 1 })
    delete opsgenie.failWith
    const second = await tell(ctx, 'opened', ['opsgenie'])
    await send()
    expect(opsgenie.alerts.map(({ alias }) => alias)).toEqual([second])
    minutes(1)
    await send()
    expect(opsgenie.alerts).toMatchObject([{ alias: second }, { alias: first, state: 'acknowledged' }])
  })

  it('is not told any more when it is over: the end takes its place, and says so', async () => {
    const { ctx, send, slack, pagerDuty, minutes } = world({ slack: {}, pagerduty: {} })
    slack.failWith = 500
    const incident = await tell(ctx, 'opened', ['slack', 'pagerduty'])
    await send()
    await tell(ctx, 'reminder', ['slack'], incident)
    await test.db.transaction((tx) =>
      enqueueNotification(tx, ctx, {
        incident,
        kind: 'resolved',
        severity: 'P0',
        payload: { ...payload, until: '2026-11-21T13:03:00.000Z' },
      }),
    )
    delete slack.failWith
    minutes(30)
    expect(await send()).toMatchObject({ delivered: 2, superseded: 2 })
    expect(slack.sent.map(({ text }) => text.replace(/\(.*\)/, ''))).toEqual(['[P0] Shop : Resolved: database: refused the connection'])
    expect(slack.sent[0]?.body).toContain('*Lasted:* from 2026-11-21 11:58 UTC to 2026-11-21 13:03 UTC (1 h 5 min)')
    expect(slack.sent[0]?.body).toContain('Earlier messages about this could not be delivered here.')
    expect(pagerDuty.events).toEqual([`trigger ${incident}`, `resolve ${incident}`])
  })

  it('to a channel that the sender does not know waits for one that does, for an hour', async () => {
    const { ctx, send, slack, minutes } = world({ slack: {} })
    await tell(ctx, 'opened', ['slack'])
    const elsewhere = { ...ctx, config: { ...ctx.config, alerts: { channels: { pagerduty: {} } } } }
    expect(await sendNotifications(elsewhere)).toMatchObject({ delivered: 0, dead: 0 })
    expect(await send()).toMatchObject({ delivered: 1 })
    // While the one that knows it tries, however long.
    slack.failWith = 503
    await tell(ctx, 'opened', ['slack'])
    for (let hour = 0; hour < 3; hour++) {
      minutes(55)
      await send()
      expect(await sendNotifications(elsewhere)).toMatchObject({ dead: 0 })
    }
    minutes(90)
    expect(await sendNotifications(elsewhere)).toMatchObject({ dead: 1 })
    expect(await listNotifications(ctx)).toMatchObject([{ state: 'dead', error: { code: 'channel_removed' } }, { state: 'delivered' }])
  })

  it('is given up after a day, and that is told elsewhere; an end is never given up', async () => {
    const { ctx, send, slack, minutes } = world({ slack: {} })
    slack.failWith = 503
    await tell(ctx, 'opened', ['slack'])
    const second = await tell(ctx, 'opened', ['slack'])
    await tell(ctx, 'resolved', ['slack'], second)
    await send()
    minutes(25 * 60)
    expect(await send()).toMatchObject({ dead: 1 })
    expect(await test.db.query(`select payload from caretaker.outbox where topic = 'alerts.notification_dead'`)).toEqual([
      { payload: { channel: 'slack', code: 'expired' } },
    ])
    expect(await states(ctx)).toEqual(['opened dead', 'opened superseded', 'resolved waiting'])
    minutes(30 * 24 * 60)
    delete slack.failWith
    expect(await send()).toMatchObject({ delivered: 1 })
  })

  it('because a setting is missing is kept, with a log line that names it and holds no secret', async () => {
    const { ctx, send, minutes } = world({ robot: { kind: 'webhook' } }, { ALERT_CHANNEL_SECRETS: 'another=0123456789abcdef' })
    await tell(ctx, 'opened', ['robot'])
    expect(await send()).toMatchObject({ failed: 1 })
    expect(logLines(ctx).join('')).toContain('ALERT_CHANNEL_SECRETS')
    expect(logLines(ctx).join('')).not.toContain('0123456789abcdef')
    const without = { ...ctx, config: { ...ctx.config, alerts: { channels: {} } } }
    minutes(90)
    expect(await sendNotifications(without)).toMatchObject({ dead: 1 })
  })
})

describe('many at once', () => {
  it('go to Slack a second apart, and to a pager faster', async () => {
    const { ctx, send, pauses } = world({ slack: {} })
    for (let n = 0; n < 5; n++) await tell(ctx, 'opened', ['slack'])
    expect(await send()).toMatchObject({ delivered: 5 })
    expect(pauses).toEqual([1_000, 1_000, 1_000, 1_000, 1_000])
  })

  it('senders send each message once', async () => {
    const { ctx, slack } = world({ slack: {} })
    for (let n = 0; n < 10; n++) await tell(ctx, 'opened', ['slack'])
    const pause = () => Promise.resolve()
    await Promise.all([1, 2, 3].map(() => sendNotifications(ctx, { pause })))
    expect(slack.sent).toHaveLength(10)
  })

  it('mails reach every recipient once, though one of them fails at first', async () => {
    const { ctx, send, mail, minutes } = world({ email: { to: ['a@shop.test', 'b@shop.test'] } })
    await tell(ctx, 'opened', ['email'])
    let answered = 0
    const fetch: typeof globalThis.fetch = (...given) =>
      answered++ === 1 ? Promise.reject(new TypeError('fetch failed')) : globalThis.fetch(...given)
    expect(await sendNotifications({ ...ctx, fetch })).toMatchObject({ failed: 1 })
    minutes(5)
    expect(await send()).toMatchObject({ delivered: 1 })
    expect(mail.sent.map(({ to }) => to)).toEqual(['a@shop.test', 'b@shop.test'])
  })
})
