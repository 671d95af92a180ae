import { endMaintenance, listMaintenance, type MaintenanceWindow, scheduleMaintenance } from '../lib/health/index.ts'
import { CaretakerError } from '../lib/platform/errors.ts'
import type { Command } from './command.ts'
import { table } from './output.ts'
import { lengthMs } from './since.ts'

const dayMs = 86_400_000

const list: Command = {
  name: 'health maintenance list',
  usage: '[--days 30]',
  summary: 'Maintenance windows that are open or come in the next days, by hand and of the policy',
  options: { days: { type: 'string', value: 'N', about: 'how far ahead; 30 unless given' } },
  async run({ flags, context, out }) {
    const given = String(flags.days ?? '30')
    if (!/^[1-9]\d{0,2}$/.test(given))
      throw new CaretakerError('invalid_input', `--days: found "${given.slice(0, 20)}", expected a whole number from 1 to 999.`)
    const ctx = await context()
    const from = ctx.clock.now()
    const windows = await listMaintenance(ctx, { from, to: new Date(from.getTime() + Number(given) * dayMs) })
    out.result(
      windows,
      windows.length === 0
        ? `No maintenance in the next ${given} days.`
        : table(
            ['from', 'to', 'components', 'title', 'id'],
            windows.map((one) => [
              time(one.startsAt),
              time(one.endsAt),
              components(one),
              one.title,
              one.recurring ? 'of the policy' : one.id,
            ]),
          ),
    )
  },
}

const add: Command = {
  name: 'health maintenance add',
  usage: 'TITLE (--for 2h|--to TIME) [--from TIME] [--component NAME…] [--text TEXT]',
  summary: 'Announce maintenance: what fails in it is no outage and pages nobody',
  options: {
    from: { type: 'string', value: 'TIME', about: 'when it begins, with its zone (2026-12-01T02:00Z); now unless given' },
    for: { type: 'string', value: 'DURATION', about: 'how long: 90m, 2h, "2 hours"' },
    to: { type: 'string', value: 'TIME', about: 'when it ends, in place of --for' },
    component: { type: 'string', multiple: true, value: 'NAME', about: 'a check that may fail, with what depends on it; all unless given' },
    text: { type: 'string', value: 'TEXT', about: 'what the status page says beside the title' },
  },
  async run({ args, flags, context, out }) {
    const [title] = args
    if (title === undefined) throw new CaretakerError('bad_request', '`caretaker health maintenance add` takes a title, found none.')
    const ctx = await context()
    const startsAt = flags.from === undefined ? ctx.clock.now() : timeOf('--from', flags.from)
    const window = await scheduleMaintenance(ctx, {
      title,
      ...(flags.from === undefined ? {} : { startsAt }),
      endsAt: endOf(flags, startsAt),
      ...(typeof flags.text === 'string' ? { body: flags.text } : {}),
      ...(Array.isArray(flags.component) ? { components: flags.component } : {}),
    })
    out.result(
      window,
      `Announced "${window.title}" from ${time(window.startsAt)} to ${time(window.endsAt)} for ${components(window)} (${window.id}).`,
    )
  },
}

const end: Command = {
  name: 'health maintenance end',
  usage: 'ID',
  summary: 'End a maintenance window now, or call off one that has not begun',
  async run({ args, context, out }) {
    const [id] = args
    if (id === undefined)
      throw new CaretakerError(
        'bad_request',
        '`caretaker health maintenance end` takes the id that `health maintenance list` shows, found none.',
      )
    await endMaintenance(await context(), id)
    out.result({ id, ended: true }, 'The maintenance is over.')
  },
}

export const maintenance: Command[] = [list, add, end]

function endOf(flags: Record<string, unknown>, startsAt: Date): Date {
  if ((flags.for === undefined) === (flags.to === undefined))
    throw new CaretakerError('bad_request', 'Say with either --for or --to how long the maintenance takes.')
  if (flags.to !== undefined) return timeOf('--to', flags.to)
  const length = lengthMs(String(flags.for))
  if (length === undefined)
    throw new CaretakerError(
      'invalid_input',
      `--for: found "${String(flags.for).slice(0, 40)}", expected a duration such as 90m, 2h or "2 hours".`,
    )
  return new Date(startsAt.getTime() + length)
}

function timeOf(flag: string, given: unknown): Date {
  const text = String(given)
  const at = /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)$/.test(text) ? new Date(text) : new Date(Number.NaN)
  if (Number.isNaN(at.getTime()))
    throw new CaretakerError(
      'invalid_input',
      `${flag}: found "${text.slice(0, 40)}", expected a time with its zone such as 2026-12-01T02:00Z.`,
    )
  return at
}

function components({ components: names }: MaintenanceWindow): string {
  return names === 'all' ? 'everything' : names.join(', ')
}

function time(at: Date): string {
  return `${at.toISOString().slice(0, 16).replace('T', ' ')} UTC`
}
