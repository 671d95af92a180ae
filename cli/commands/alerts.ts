import { readFile } from 'node:fs/promises'
import { alertSources } from '../../lib/alert-sources.ts'
import {
  type Alert,
  channelNames,
  listAlerts,
  listNotifications,
  listRules,
  listSilences,
  matchesAll,
  type Replay,
  replayRule,
  showChannelSecret,
  showMatchers,
  silence,
  testChannel,
  unsilence,
} from '../../lib/alerts/index.ts'
import { type AlertRule, alertRule, issuesOfFigure, type Policy } from '../../lib/config/index.ts'
import { CaretakerError } from '../../lib/platform/errors.ts'
import type { Command } from '../command.ts'
import { duration, table } from '../output.ts'
import { lengthMs } from '../since.ts'

const list: Command = {
  name: 'alerts list',
  usage: '[--resolved 24h]',
  summary: 'What fires or is about to, the silences that hold, and what waits to be told',
  options: { resolved: { type: 'string', value: 'TIME', about: 'also what was over within that time, such as 24h' } },
  async run({ flags, context, out }) {
    const hours = typeof flags.resolved === 'string' ? Math.ceil(spanMs('--resolved', flags.resolved) / 3_600_000) : 0
    const ctx = await context()
    const alerts = await listAlerts(ctx, { resolvedHours: hours })
    const silences = await listSilences(ctx)
    const waiting = (await listNotifications(ctx, { limit: 200 })).filter(({ state }) => state === 'waiting')
    const channels = channelNames(ctx)
    const silent = silences.map((one) => [one.id, showMatchers(one.matchers), time(one.endsAt), one.reason])
    const lines = [
      alerts.length === 0 ? 'No condition holds.' : alertTable(alerts),
      ...(silences.length === 0 ? [] : ['', table(['silence', 'matches', 'until', 'reason'], silent)]),
      ...(waiting.length === 0
        ? []
        : [
            '',
            table(
              ['to be told on', 'what', 'attempts', 'again', 'because'],
              waiting.map((one) => [
                one.channel,
                `${one.kind}: ${one.payload.title}`,
                one.attempts,
                time(one.nextAttemptAt),
                one.error?.code ?? null,
              ]),
            ),
          ]),
      '',
      channels.length === 0
        ? 'No channel is configured (alerts.channels): nobody is told of anything.'
        : `Channels: ${channels.join(', ')}. \`caretaker alerts test NAME\` tries one.`,
    ]
    out.result({ alerts, silences, waiting, channels }, lines.join('\n'))
  },
}

const rules: Command = {
  name: 'alerts rules',
  summary: 'Everything that is watched: the rules of the policy, every check, and the events that mean something',
  async run({ context, out }) {
    const found = await listRules(await context(), alertSources)
    out.result(
      found,
      table(
        ['rule', 'severity', 'component', 'fires when', 'told on'],
        found.map((one) => [
          one.enabled ? one.name : `${one.name} (off)`,
          one.severity,
          one.component,
          one.condition,
          one.notify === null ? null : one.notify.length === 0 ? 'nowhere' : one.notify.join(', '),
        ]),
      ),
    )
  },
}

const replay: Command = {
  name: 'alerts replay',
  usage: '--rule NAME|FILE [--since 30d] [--above N|--below N] [--for TIME]',
  summary: 'What a rule would have paged over stored history, and what would have been held back, and why',
  options: {
    rule: { type: 'string', value: 'RULE', about: 'a rule of the policy, a check, or a file with a rule as JSON' },
    since: { type: 'string', value: 'TIME', about: 'a time, or how far back, such as 30d; 30d unless given' },
    above: { type: 'string', value: 'N', about: 'with another threshold than the rule has' },
    below: { type: 'string', value: 'N', about: 'likewise' },
    for: { type: 'string', value: 'TIME', about: 'with another time that it must hold, such as 10m' },
  },
  async run({ flags, context, out }) {
    if (typeof flags.rule !== 'string') throw new CaretakerError('bad_request', '--rule is missing; expected a rule, a check, or a file.')
    const ctx = await context()
    const from = since(typeof flags.since === 'string' ? flags.since : '30d', ctx.clock.now())
    const rule = await ruleOf(flags.rule, ctx.config, flags)
    out.progress('Going through the history …')
    const found = await replayRule(ctx, alertSources, { rule, from })
    out.result(found, replayText(found))
  },
}

const silenceCommand: Command = {
  name: 'alerts silence',
  usage: 'MATCHER --for 2h --reason TEXT',
  summary: 'Keep alerts that match from opening incidents; what still fires afterwards opens one then',
  options: {
    for: { type: 'string', value: 'TIME', about: 'such as 30m, 2h or 3d' },
    reason: { type: 'string', value: 'TEXT', about: 'for whoever wonders why it is quiet' },
  },
  async run({ args, flags, context, out }) {
    const [matcher] = args
    if (matcher === undefined)
      throw new CaretakerError(
        'bad_request',
        '`caretaker alerts silence` takes a rule or component such as stripe, or component=stripe,severity=P3; found none.',
      )
    if (typeof flags.for !== 'string') throw new CaretakerError('bad_request', '--for is missing; expected a time such as 2h.')
    if (typeof flags.reason !== 'string') throw new CaretakerError('bad_request', '--reason is missing; expected a sentence.')
    const ctx = await context()
    const made = await silence(ctx, { matcher, forMs: spanMs('--for', flags.for), reason: flags.reason })
    // Labels are known only of what fires.
    const named = made.matchers.filter(({ key }) => ['any', 'rule', 'component', 'severity'].includes(key))
    const watched = await listRules(ctx, alertSources)
    const nothing = !watched.some(({ name, component, severity }) => matchesAll(named, { rule: name, component, severity, labels: {} }))
    out.result(
      made,
      [
        `${showMatchers(made.matchers)} is silent until ${time(made.endsAt)}. \`caretaker alerts unsilence ${made.id}\` ends it.`,
        ...(nothing ? ['Nothing that is watched matches it: `caretaker alerts rules` lists what is.'] : []),
      ].join('\n'),
    )
  },
}

const unsilenceCommand: Command = {
  name: 'alerts unsilence',
  usage: 'ID',
  summary: 'End a silence before its time',
  async run({ args, context, out }) {
    const [id] = args
    if (id === undefined) throw new CaretakerError('bad_request', '`caretaker alerts unsilence` takes the id of a silence, found none.')
    const ended = await unsilence(await context(), id)
    out.result(ended, `${showMatchers(ended.matchers)} is not silent any more.`)
  },
}

const test: Command = {
  name: 'alerts test',
  usage: 'CHANNEL',
  summary: 'Send a test message on a channel, and end at once what it opens there',
  async run({ args, context, out }) {
    const [name] = args
    const ctx = await context()
    if (name === undefined) {
      const names = channelNames(ctx)
      throw new CaretakerError(
        'bad_request',
        `\`caretaker alerts test\` takes a channel, found none. ${names.length === 0 ? 'The policy has none (alerts.channels).' : `There are: ${names.join(', ')}.`}`,
      )
    }
    const sent = await testChannel(ctx, name)
    out.result(sent, `${name} has taken the message.`)
  },
}

const secret: Command = {
  name: 'alerts secret',
  usage: 'CHANNEL',
  summary: 'Show what the messages of a generic webhook are signed with, to be set at its receiver; audited',
  async run({ args, context, out }) {
    const [name] = args
    if (name === undefined) throw new CaretakerError('bad_request', '`caretaker alerts secret` takes a channel, found none.')
    const shown = await showChannelSecret(await context(), name)
    out.result({ channel: name, secret: shown }, shown)
  },
}

export const commands: Command[] = [list, rules, replay, silenceCommand, unsilenceCommand, test, secret]

function alertTable(alerts: readonly Alert[]): string {
  return table(
    ['rule', 'state', 'severity', 'component', 'since', 'told', 'what'],
    alerts.map((one) => [
      Object.keys(one.labels).length === 0 ? one.rule : `${one.rule} ${Object.values(one.labels).join(' ')}`,
      one.state === 'ok' ? 'over' : one.state,
      one.severity,
      one.component,
      time(one.since),
      told(one),
      one.summary,
    ]),
  )
}

function told({ state, withheld, root, announced }: Alert): string | null {
  if (withheld === 'inhibited') return `no: because of ${root ?? 'another'}`
  if (withheld !== null) return `no: ${withheld}`
  return announced ? 'yes' : state === 'pending' ? 'not yet' : null
}

function replayText(found: Replay): string {
  const { alerts, from, to, looks, unknown, hourlyBefore, rule, cannotKnow } = found
  const opened = alerts.filter(({ page }) => page === 'opened').length
  const again = alerts.filter(({ page }) => page === 'reopened').length
  const joined = alerts.filter(({ page }) => page === 'joined').length
  const held = alerts.filter(({ page }) => page === null).length
  const times = (count: number) => `${count} time${count === 1 ? '' : 's'}`
  const lasted = ({ at, until }: Replay['alerts'][number]) => duration((until ?? to).getTime() - at.getTime())
  const reminders = alerts.reduce((sum, one) => sum + one.reminders, 0)
  const rows = alerts.map((one) => [
    time(one.at),
    one.until === null ? `${lasted(one)}, still` : lasted(one),
    one.page === null ? 'nobody' : pages[one.page],
    one.reminders,
    one.resolution === 'hour' ? `${one.summary} (by the hour)` : one.summary,
    heldText(one),
  ])
  const known = looks === 0 ? 0 : Math.round((100 * (looks - unknown)) / looks)
  const between = `between ${time(from)} and ${time(to)}`
  return [
    opened + again === 0
      ? `${rule} would have paged nobody ${between}${held === 0 ? '' : `: it fired ${times(held)}, and was held back`}.`
      : `${rule} would have opened ${opened} incident${opened === 1 ? '' : 's'} and come back ${again} times ${between}, with ${reminders} reminders if nobody had acknowledged.${joined === 0 ? '' : ` ${joined} more would have been part of one that was open.`}${held === 0 ? '' : ` It fired ${held} more ${held === 1 ? 'time' : 'times'}, and was held back.`}`,
    ...(rows.length === 0 ? [] : ['', table(['at', 'lasted', 'page', 'reminders', 'what', 'held back'], rows)]),
    '',
    `Known are ${known} % of ${looks} looks; of the rest nobody can say.`,
    ...(hourlyBefore === null ? [] : [`Before ${time(hourlyBefore)} there are figures of whole hours only: shorter times do not show.`]),
    ...cannotKnow,
  ].join('\n')
}

const pages = { opened: 'new incident', reopened: 'the same again', joined: 'part of it' } as const

/** "because of database 5 min, silenced 20 min, then told". */
function heldText({ held, told }: Replay['alerts'][number]): string | null {
  const parts = held.map(({ from, until, because, root }) => {
    const why = because === 'inhibited' ? `because of ${root ?? 'another'}` : because === 'maintenance' ? 'under maintenance' : because
    return `${why} ${duration(until.getTime() - from.getTime())}`
  })
  return parts.length === 0 ? null : [...parts, ...(told === null ? [] : ['then told'])].join(', ')
}

/** A rule of the policy by its name, or one in a file; with other thresholds where they are given. */
async function ruleOf(
  named: string,
  { alerts, metrics }: Pick<Policy, 'alerts' | 'metrics'>,
  flags: Record<string, unknown>,
): Promise<string | AlertRule> {
  const changes = {
    ...(typeof flags.above === 'string' ? { above: figure('--above', flags.above), below: undefined, recover: undefined } : {}),
    ...(typeof flags.below === 'string' ? { below: figure('--below', flags.below), above: undefined, recover: undefined } : {}),
    ...(typeof flags.for === 'string' ? { for: `${Math.max(1, Math.round(spanMs('--for', flags.for) / 1_000))} seconds` } : {}),
  }
  const changed = Object.keys(changes).length > 0
  const rule: unknown = named.endsWith('.json') ? await jsonFile(named) : alerts?.rules?.find(({ name }) => name === named)
  if (rule === undefined) {
    if (changed) throw new CaretakerError('bad_request', `--above, --below and --for change a rule of the policy; "${named}" is none.`)
    return named
  }
  const given = Object.entries({ ...(rule as object), ...changes }).filter(([, value]) => value !== undefined)
  const parsed = alertRule.safeParse(Object.fromEntries(given))
  const found = parsed.success ? [...issuesOfFigure(parsed.data, metrics?.gauges ?? {})] : parsed.error.issues
  if (parsed.success && found.length === 0) return parsed.data
  const issues = found.map(({ path, message }) => `${path.length === 0 ? '' : `${path.map(String).join('.')}: `}${message}`)
  throw new CaretakerError('invalid_input', `The rule "${named}" is not usable: ${issues.join('; ')}.`)
}

async function jsonFile(path: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(path, 'utf8'))
  } catch (error) {
    const why = error instanceof SyntaxError ? 'it is not JSON' : 'it cannot be read'
    throw new CaretakerError('invalid_input', `--rule: ${path}: ${why}.`)
  }
}

function figure(flag: string, given: string): number {
  const value = Number(given)
  if (given.trim() === '' || !Number.isFinite(value))
    throw new CaretakerError('invalid_input', `${flag}: found "${given.slice(0, 40)}", expected a number.`)
  return value
}

/** "2h", "30d", "2 hours", in ms. */
function spanMs(flag: string, given: string): number {
  const length = lengthMs(given)
  if (length !== undefined) return length
  throw new CaretakerError('invalid_input', `${flag}: found "${given.slice(0, 40)}", expected a time such as 30m, 2h, 3d or "2 hours".`)
}

/** A time that is past, or how far back. */
function since(given: string, now: Date): Date {
  if (/^\d+ ?[a-z]+$/.test(given)) return new Date(now.getTime() - spanMs('--since', given))
  const at = new Date(given)
  if (Number.isNaN(at.getTime()) || at >= now)
    throw new CaretakerError(
      'invalid_input',
      `--since: found "${given.slice(0, 40)}", expected a time in the past such as 2026-11-01T00:00:00Z, or 30d.`,
    )
  return at
}

function time(at: Date | null): string | null {
  return at === null ? null : `${at.toISOString().slice(0, 16).replace('T', ' ')} UTC`
}
