import { CaretakerError } from '../../lib/platform/errors.ts'
import {
  type InboxEntry,
  type InboxState,
  inboxStates,
  listInbox,
  processInbox,
  replayEvents,
  showInbox,
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
    const limit = Number(flags.limit ?? 50)
    if (!Number.isInteger(limit) || limit < 1 || limit > 1_000)
      throw new CaretakerError('invalid_input', `--limit: found "${String(flags.limit)}", expected a whole number from 1 to 1000.`)
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
  usage: 'ID…',
  summary: 'Apply dead, ignored or waiting events now; one that was applied is refused',
  async run({ args, context, out }) {
    if (args.length === 0) throw new CaretakerError('bad_request', '`caretaker webhooks replay` takes one id or more, found none.')
    const ctx = await context()
    const replayed = await replayEvents(ctx, args)
    await processInbox(ctx, { ids: replayed.map((entry) => entry.id), limit: replayed.length })
    const after = await Promise.all(replayed.map((entry) => showInbox(ctx, entry.id)))
    out.result(
      after,
      table(
        ['id', 'event', 'type', 'state', 'outcome'],
        after.map((entry) => [Number(entry.id), entry.eventId, entry.type, entry.state, outcome(entry)]),
      ),
    )
    if (after.some((entry) => entry.error !== null)) process.exitCode = 1
  },
}

export const commands: Command[] = [list, show, replay]

function inboxState(given: string): InboxState {
  const state = inboxStates.find((one) => one === given)
  if (state === undefined) throw new CaretakerError('invalid_input', `--state: found "${given}", expected ${inboxStates.join(', ')}.`)
  return state
}

const setAside: Record<string, string> = {
  late: 'a later event of its object was applied before',
}

function outcome(entry: InboxEntry): string | null {
  if (entry.state === 'applied') return `applied ${time(entry.appliedAt)}`
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
