import { durationMs } from '../../lib/config/index.ts'
import { CaretakerError } from '../../lib/platform/errors.ts'
import {
  type DeliveryEntry,
  deliverMessages,
  deliveryStates,
  type InboxEntry,
  type InboxState,
  inboxStates,
  listDeliveries,
  listInbox,
  processInbox,
  reconcileStripe,
  redeliver,
  replayEvents,
  showInbox,
  showSubscriberSecret,
  webhookFigures,
} from '../../lib/webhooks/index.ts'
import type { Command } from '../command.ts'
import { table } from '../output.ts'

const list: Command = {
  name: 'webhooks list',
  usage: '[--state dead] [--type invoice.paid] [--source stripe] [--limit 50]',
  summary: 'The newest webhook events and what became of them',
  options: {
    state: { type: 'string', value: 'STATE', about: `one of ${inboxStates.join(', ')}` },
    type: { type: 'string', value: 'TYPE', about: "the provider's type of event" },
    source: { type: 'string', value: 'SOURCE', about: 'the provider' },
    limit: { type: 'string', value: 'N', about: 'how many of the newest; 50 unless given' },
  },
  async run({ flags, context, out }) {
    const limit = wholeNumber('--limit', flags.limit, 50)
    const ctx = await context()
    const state = flags.state === undefined ? undefined : inboxState(String(flags.state))
    const entries = await listInbox(ctx, {
      limit,
      ...(state === undefined ? {} : { state }),
      ...(typeof flags.type === 'string' ? { type: flags.type } : {}),
      ...(typeof flags.source === 'string' ? { source: flags.source } : {}),
    })
    const rows = entries.map((entry) => [
      Number(entry.id),
      entry.source,
      entry.eventId,
      entry.type,
      entry.state,
      entry.attempts,
      time(entry.receivedAt),
      outcome(entry),
    ])
    out.result(
      entries,
      entries.length === 0
        ? 'No webhook events.'
        : table(['id', 'source', 'event', 'type', 'state', 'attempts', 'received', 'outcome'], rows),
    )
  },
}

const show: Command = {
  name: 'webhooks show',
  usage: 'ID [--payload]',
  summary: "One webhook event, by its number or the provider's id; with --payload what was sent, which may be personal data",
  options: { payload: { type: 'boolean', about: 'what was sent, too; it may be personal data' } },
  async run({ args, flags, context, out }) {
    const [id, ...rest] = args
    if (id === undefined || rest.length > 0)
      throw new CaretakerError('bad_request', `\`caretaker webhooks show\` takes one id, found ${args.length}.`)
    const entry = await showInbox(await context(), id, { payload: flags.payload === true })
    const { payload, ...facts } = entry
    const lines = Object.entries(facts)
      .filter(([, value]) => value !== null)
      .map(([name, value]) => `${name.padEnd(14)} ${text(value)}`)
    out.result(entry, [...lines, ...(payload === undefined ? [] : ['', JSON.stringify(payload, null, 2)])].join('\n'))
  },
}

const replay: Command = {
  name: 'webhooks replay',
  usage: '[ID…] [--state dead] [--type invoice.paid] [--source stripe] [--limit 50]',
  summary: 'Apply dead, ignored or waiting events now, by id or all of a kind; one that was applied is refused',
  options: {
    state: { type: 'string', value: 'STATE', about: 'instead of ids: all that are dead, ignored or received' },
    type: { type: 'string', value: 'TYPE', about: 'with --state: only of that type' },
    source: { type: 'string', value: 'SOURCE', about: 'with --state: only of that provider' },
    limit: { type: 'string', value: 'N', about: 'with --state: how many of the newest; 50 unless given' },
  },
  async run({ args, flags, context, out }) {
    if ((args.length === 0) === (flags.state === undefined))
      throw new CaretakerError('bad_request', '`caretaker webhooks replay` takes one id or more, or --state and no id.')
    const limit = wholeNumber('--limit', flags.limit, 50)
    const state = flags.state === undefined ? undefined : inboxState(String(flags.state))
    if (state === 'applied')
      throw new CaretakerError(
        'invalid_input',
        '--state: found "applied", expected received, ignored or dead: an applied event is not applied again.',
      )
    const ctx = await context()
    const ids =
      state === undefined
        ? args
        : (
            await listInbox(ctx, {
              state,
              limit,
              ...(typeof flags.type === 'string' ? { type: flags.type } : {}),
              ...(typeof flags.source === 'string' ? { source: flags.source } : {}),
            })
          ).map((entry) => entry.id)
    const replayed = await replayEvents(ctx, ids)
    if (replayed.length > 0) await processInbox(ctx, { ids: replayed.map((entry) => entry.id), limit: replayed.length })
    const after = await Promise.all(replayed.map((entry) => showInbox(ctx, entry.id)))
    out.result(
      after,
      after.length === 0
        ? 'No such webhook events.'
        : table(
            ['id', 'event', 'type', 'state', 'outcome'],
            after.map((entry) => [Number(entry.id), entry.eventId, entry.type, entry.state, outcome(entry)]),
          ),
    )
    if (after.some((entry) => entry.error !== null)) process.exitCode = 1
  },
}

const reconcile: Command = {
  name: 'webhooks reconcile',
  usage: 'stripe [--since "3 days"] [--account acct_…]',
  summary: 'Ask the provider for events that never arrived, and apply them',
  options: {
    since: { type: 'string', value: 'TIME', about: 'an ISO 8601 time or a duration back from now; since the last time unless given' },
    account: { type: 'string', value: 'ACCOUNT', about: "a connected account; the platform's own unless given" },
  },
  async run({ args, flags, context, out }) {
    if (args.length !== 1 || args[0] !== 'stripe')
      throw new CaretakerError(
        'bad_request',
        `\`caretaker webhooks reconcile\` takes "stripe", found ${args.length === 0 ? 'nothing' : `"${args.join(' ')}"`}.`,
      )
    const ctx = await context()
    const since = typeof flags.since === 'string' ? sinceTime(flags.since, ctx.clock.now()) : undefined
    const account = typeof flags.account === 'string' ? flags.account : undefined
    const done = await reconcileStripe(ctx, {
      ...(since === undefined ? {} : { since }),
      ...(account === undefined ? {} : { account }),
    })
    const applied = done.healed === 0 ? null : await processInbox(ctx, { limit: done.healed })
    out.result(
      { ...done, applied: applied?.applied ?? 0 },
      done.skipped ??
        `${done.seen} events since ${time(done.since)}, of which ${done.healed} had never arrived${applied === null ? '' : `; ${applied.applied} are applied`}.`,
    )
  },
}

const status: Command = {
  name: 'webhooks status',
  summary: 'What waits, what died and what is silent, by provider and by subscriber',
  async run({ context, out }) {
    const figures = await webhookFigures(await context())
    const lines = [
      figures.sources.length === 0
        ? 'No webhook events yet.'
        : table(
            ['source', 'waiting', 'oldest', 'dead', 'applied in 24 h', 'last', 'silent since'],
            figures.sources.map((one) => [
              one.source,
              one.waiting,
              age(one.oldestSeconds),
              one.dead,
              one.applied,
              time(one.lastReceivedAt),
              one.silentSince === null ? '' : time(one.silentSince),
            ]),
          ),
    ]
    if (figures.subscribers.length > 0)
      lines.push(
        '',
        table(
          ['subscriber', 'waiting', 'oldest', 'dead', 'delivered in 24 h', 'paused until'],
          figures.subscribers.map((one) => [
            one.subscriber,
            one.waiting,
            age(one.oldestSeconds),
            one.dead,
            one.delivered,
            one.goneAt !== null ? 'it wants nothing (410)' : one.openUntil === null ? '' : time(one.openUntil),
          ]),
        ),
      )
    out.result(figures, lines.join('\n'))
  },
}

const deliveries: Command = {
  name: 'webhooks deliveries',
  usage: '[--state dead] [--subscriber n8n] [--type order.paid] [--limit 50]',
  summary: 'The newest deliveries to subscribers and what became of them',
  options: {
    state: { type: 'string', value: 'STATE', about: `one of ${deliveryStates.join(', ')}` },
    subscriber: { type: 'string', value: 'NAME', about: 'as in webhooks.subscribers' },
    type: { type: 'string', value: 'TYPE', about: 'the type of event' },
    limit: { type: 'string', value: 'N', about: 'how many of the newest; 50 unless given' },
  },
  async run({ flags, context, out }) {
    const limit = wholeNumber('--limit', flags.limit, 50)
    const state = deliveryStates.find((one) => one === flags.state)
    if (flags.state !== undefined && state === undefined)
      throw new CaretakerError('invalid_input', `--state: found "${String(flags.state)}", expected ${deliveryStates.join(', ')}.`)
    const entries = await listDeliveries(await context(), {
      limit,
      ...(state === undefined ? {} : { state }),
      ...(typeof flags.subscriber === 'string' ? { subscriber: flags.subscriber } : {}),
      ...(typeof flags.type === 'string' ? { type: flags.type } : {}),
    })
    out.result(entries, entries.length === 0 ? 'No deliveries.' : deliveryTable(entries))
  },
}

const redeliverCommand: Command = {
  name: 'webhooks redeliver',
  usage: 'ID…',
  summary: 'Send deliveries again now, by their number, or all of one message by its id',
  async run({ args, context, out }) {
    if (args.length === 0) throw new CaretakerError('bad_request', '`caretaker webhooks redeliver` takes one id or more, found none.')
    const ctx = await context()
    const due = await redeliver(ctx, args)
    await deliverMessages(ctx, { limit: due.length })
    const ids = new Set(due.map(({ id }) => id))
    const after = (await listDeliveries(ctx, { limit: 1_000 })).filter(({ id }) => ids.has(id))
    out.result(after, deliveryTable(after))
    if (after.some((entry) => entry.error !== null)) process.exitCode = 1
  },
}

const secret: Command = {
  name: 'webhooks secret',
  usage: 'SUBSCRIBER',
  summary: 'What the messages to a subscriber are signed with, to be set at its end; a secret',
  async run({ args, context, out }) {
    const [name, ...rest] = args
    if (name === undefined || rest.length > 0)
      throw new CaretakerError('bad_request', `\`caretaker webhooks secret\` takes the name of one subscriber, found ${args.length}.`)
    const found = await showSubscriberSecret(await context(), name)
    out.result({ subscriber: name, secret: found }, found)
  },
}

export const commands: Command[] = [list, show, replay, reconcile, status, deliveries, redeliverCommand, secret]

function wholeNumber(flag: string, given: unknown, otherwise: number): number {
  const limit = Number(given ?? otherwise)
  if (!Number.isInteger(limit) || limit < 1 || limit > 1_000)
    throw new CaretakerError('invalid_input', `${flag}: found "${String(given)}", expected a whole number from 1 to 1000.`)
  return limit
}

/** A time, or a duration back from `now`. */
function sinceTime(given: string, now: Date): Date {
  if (/^\d+ [a-z]+$/.test(given)) return new Date(now.getTime() - durationMs(given))
  const at = new Date(given)
  if (Number.isNaN(at.getTime()) || at > now)
    throw new CaretakerError(
      'invalid_input',
      `--since: found "${given}", expected a time in the past such as 2026-11-01T00:00:00Z, or "3 days".`,
    )
  return at
}

function deliveryTable(entries: readonly DeliveryEntry[]): string {
  return table(
    ['id', 'subscriber', 'type', 'state', 'attempts', 'created', 'outcome'],
    entries.map((entry) => [
      Number(entry.id),
      entry.subscriber,
      entry.type,
      entry.state,
      entry.attempts,
      time(entry.createdAt),
      entry.state === 'delivered'
        ? `delivered ${time(entry.deliveredAt)}`
        : entry.state === 'dead'
          ? `gave up: ${entry.error?.code ?? 'unknown'}`
          : entry.error === null
            ? 'waits'
            : `${entry.error.code}; again ${time(entry.nextAttemptAt)}`,
    ]),
  )
}

function age(seconds: number | null): string {
  if (seconds === null) return ''
  return seconds < 120
    ? `${Math.round(seconds)} s`
    : seconds < 7_200
      ? `${Math.round(seconds / 60)} min`
      : `${Math.round(seconds / 3_600)} h`
}

function inboxState(given: string): InboxState {
  const state = inboxStates.find((one) => one === given)
  if (state === undefined) throw new CaretakerError('invalid_input', `--state: found "${given}", expected ${inboxStates.join(', ')}.`)
  return state
}

const setAside: Record<string, string> = {
  late: 'a later event of its object was applied before',
}

function outcome(entry: InboxEntry): string | null {
  if (entry.state === 'applied') return `applied ${time(entry.appliedAt)}${entry.fetched ? ', fetched' : ''}`
  if (entry.state === 'ignored') return setAside[entry.error?.code ?? ''] ?? 'no handler in the policy'
  if (entry.state === 'dead') return `gave up: ${entry.error?.code ?? 'unknown'}`
  if (entry.error !== null) return `${entry.error.code}; again ${time(entry.nextAttemptAt)}`
  return entry.attempts === 0 ? 'waits to be applied, or for an earlier event of its object' : null
}

function time(date: Date | null): string {
  return date === null ? '–' : `${date.toISOString().slice(0, 19).replace('T', ' ')} UTC`
}

function text(value: unknown): string {
  if (value instanceof Date) return time(value)
  return typeof value === 'object' ? JSON.stringify(value) : String(value)
}
