import { writeFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import {
  acknowledgeIncident,
  actorName,
  addNote,
  checkItem,
  describeEvent,
  type Incident,
  type IncidentDetail,
  incidentStates,
  listIncidents,
  openElsewhere,
  openIncident,
  postmortem,
  resolveIncident,
  setSeverity,
  severityMatrix,
  showIncident,
  updateIncident,
} from '../../lib/alerts/index.ts'
import type { Context } from '../../lib/platform/context.ts'
import { environmentOf } from '../../lib/platform/environment.ts'
import { CaretakerError } from '../../lib/platform/errors.ts'
import type { Command } from '../command.ts'
import { table } from '../output.ts'

const list: Command = {
  name: 'incidents list',
  usage: '[--state open] [--limit 50]',
  summary: 'Incidents, open ones first',
  options: {
    state: { type: 'string', value: 'STATE', about: 'open, resolved or all; all unless given' },
    limit: { type: 'string', value: 'N', about: 'how many; 50 unless given' },
  },
  async run({ flags, context, out }) {
    const state = (['open', 'resolved', 'all'] as const).find((one) => one === (flags.state ?? 'all'))
    if (state === undefined)
      throw new CaretakerError('invalid_input', `--state: found "${String(flags.state)}", expected open, resolved or all.`)
    const limit = wholeNumber('--limit', flags.limit ?? '50')
    const ctx = await context()
    const incidents = await listIncidents(ctx, { state, limit })
    const elsewhere = Object.entries(incidents.length === 0 ? await openElsewhere(ctx) : {})
    const hint = ` here (CARETAKER_ENVIRONMENT is ${environmentOf(ctx)}); open elsewhere: ${elsewhere
      .map(([name, count]) => `${count} in ${name}`)
      .join(', ')}`
    out.result(
      incidents,
      incidents.length === 0
        ? `No incidents${elsewhere.length === 0 ? '' : hint}.`
        : table(
            ['number', 'severity', 'state', 'opened', 'acknowledged', 'resolved', 'title'],
            incidents.map((one) => [
              one.number,
              one.severity,
              one.partOf === null ? one.state : `part of #${one.partOf}`,
              time(one.openedAt),
              time(one.acknowledgedAt),
              time(one.resolvedAt),
              one.title,
            ]),
          ),
    )
  },
}

const open: Command = {
  name: 'incidents open',
  usage: 'TITLE --severity P1 [--component NAME] [--affected NAME…] [--message TEXT] [--public|--private] [--public-title TEXT]',
  summary: 'Open an incident by hand and tell the channels of its severity',
  options: {
    severity: { type: 'string', value: 'SEVERITY', about: "one of the policy's" },
    component: { type: 'string', value: 'NAME', about: 'what is broken; alerts of the same component join the incident' },
    affected: { type: 'string', multiple: true, value: 'NAME', about: 'what suffers from it; may be repeated' },
    message: { type: 'string', value: 'TEXT', about: 'the first update on the status page' },
    public: { type: 'boolean', about: 'on the status page, whatever the severity says' },
    private: { type: 'boolean', about: 'not on the status page, whatever the severity says' },
    'public-title': { type: 'string', value: 'TEXT', about: 'what the status page calls it; "Service disruption" unless given' },
  },
  async run({ args, flags, context, out }) {
    const [title] = args
    if (title === undefined) throw new CaretakerError('bad_request', '`caretaker incidents open` takes a title, found none.')
    const shown = publicFlag(flags)
    const ctx = await context()
    if (typeof flags.severity !== 'string') {
      const known = severityMatrix(ctx.config).map(({ name }) => name)
      throw new CaretakerError('bad_request', `--severity is missing; expected one of ${known.join(', ')}.`)
    }
    const incident = await openIncident(ctx, {
      title,
      severity: flags.severity,
      component: text(flags.component),
      affected: Array.isArray(flags.affected) ? flags.affected : undefined,
      message: text(flags.message),
      public: shown,
      publicTitle: text(flags['public-title']),
    })
    out.result(
      incident,
      `Incident ${incident.number} is open. ${incident.channels.length === 0 ? 'No channel is told.' : `Told soon: ${incident.channels.join(', ')}.`}`,
    )
  },
}

const show: Command = {
  name: 'incidents show',
  usage: 'INCIDENT',
  summary: 'One incident, by its number or id: what is known, its checklist and its timeline',
  async run({ args, context, out }) {
    const detail = await showIncident(await context(), one('incidents show', args))
    out.result(detail, described(detail))
  },
}

const acknowledge = verb(
  'incidents ack',
  'INCIDENT',
  'Take an incident on: no reminders and no escalation after this',
  {},
  (ctx, incident) => acknowledgeIncident(ctx, { incident }),
)

const update = verb(
  'incidents update',
  'INCIDENT [--state identified] [--message TEXT] [--public|--private] [--public-title TEXT] [--root-cause TEXT]',
  'Move an incident on and say so on the status page; note what caused it',
  {
    state: { type: 'string', value: 'STATE', about: 'investigating, identified or monitoring' },
    message: { type: 'string', value: 'TEXT', about: 'for the status page, and for everybody who was told' },
    public: { type: 'boolean', about: 'put it on the status page' },
    private: { type: 'boolean', about: 'take it off the status page' },
    'public-title': { type: 'string', value: 'TEXT', about: 'what the status page calls it' },
    'root-cause': { type: 'string', value: 'TEXT', about: 'for operators; also after the end' },
  },
  (ctx, incident, flags) => {
    const states = incidentStates.filter((state) => state !== 'resolved')
    const state = states.find((known) => known === flags.state)
    if (flags.state === 'resolved')
      throw new CaretakerError('invalid_input', '--state: found "resolved"; `caretaker incidents resolve` ends an incident.')
    if (flags.state !== undefined && state === undefined)
      throw new CaretakerError('invalid_input', `--state: found "${String(flags.state)}", expected ${states.join(', ')}.`)
    return updateIncident(ctx, {
      incident,
      state,
      message: text(flags.message),
      public: publicFlag(flags),
      publicTitle: text(flags['public-title']),
      rootCause: text(flags['root-cause']),
    })
  },
)

const severity = verb(
  'incidents severity',
  'INCIDENT SEVERITY [--reason TEXT]',
  'Make an incident more or less severe',
  { reason: { type: 'string', value: 'TEXT', about: 'for the timeline' } },
  (ctx, incident, flags, [name]) => setSeverity(ctx, { incident, severity: name as string, reason: text(flags.reason) }),
)

const check = verb(
  'incidents check',
  'INCIDENT ITEM [--undo]',
  'Tick off an item of the checklist, by its number',
  { undo: { type: 'boolean', about: 'take the tick back' } },
  (ctx, incident, flags, [item]) => checkItem(ctx, { incident, item: wholeNumber('ITEM', item), done: flags.undo !== true }),
)

const note = verb('incidents note', 'INCIDENT TEXT', 'Add to the timeline what only operators read', {}, (ctx, incident, _flags, [body]) =>
  addNote(ctx, { incident, note: body as string }),
)

const resolveCommand = verb(
  'incidents resolve',
  'INCIDENT [--message TEXT] [--root-cause TEXT]',
  'End an incident, and tell everybody who was told of it',
  {
    message: { type: 'string', value: 'TEXT', about: 'for the status page, and for everybody who was told' },
    'root-cause': { type: 'string', value: 'TEXT', about: 'for operators' },
  },
  (ctx, incident, flags) => resolveIncident(ctx, { incident, message: text(flags.message), rootCause: text(flags['root-cause']) }),
)

const postmortemCommand: Command = {
  name: 'incidents postmortem',
  usage: 'INCIDENT [--out FILE]',
  summary: 'A post-mortem as Markdown, filled in from the timeline',
  options: { out: { type: 'string', value: 'FILE', about: 'where to; printed unless given. A file that is there is not overwritten' } },
  async run({ args, flags, context, out }) {
    const markdown = await postmortem(await context(), one('incidents postmortem', args))
    if (typeof flags.out !== 'string') return out.result({ markdown }, markdown)
    const file = resolve(flags.out)
    // What a person has filled in since must not be lost.
    await writeFile(file, markdown, { flag: 'wx' }).catch((cause: NodeJS.ErrnoException) => {
      if (cause.code === 'EEXIST')
        throw new CaretakerError('bad_request', `${file} is there already. Name another file with --out.`, { cause })
      throw new CaretakerError('bad_request', `${file} cannot be written (${cause.code ?? 'unknown'}).`, { cause })
    })
    out.result({ file }, `Written to ${file}.`)
  },
}

export const commands: Command[] = [list, open, show, acknowledge, update, severity, check, note, resolveCommand, postmortemCommand]

/** A command that changes one incident, and says how it is afterwards. */
function verb(
  name: string,
  usage: string,
  summary: string,
  options: NonNullable<Command['options']>,
  change: (ctx: Context, incident: string, flags: Record<string, unknown>, rest: string[]) => Promise<Incident> | Incident,
): Command {
  const wanted = usage.split(' [')[0]?.split(' ') ?? []
  return {
    name,
    usage,
    summary,
    options,
    async run({ args, flags, context, out }) {
      if (args.length !== wanted.length)
        throw new CaretakerError(
          'bad_request',
          `\`caretaker ${name}\` takes ${wanted.join(' ')}, found ${args.length} of ${wanted.length}.`,
        )
      const [incident, ...rest] = args
      const changed = await change(await context(), incident as string, flags, rest)
      out.result(changed, `Incident ${changed.number}: ${changed.severity}, ${changed.state}${acknowledged(changed)}. ${changed.title}`)
    },
  }
}

function acknowledged({ acknowledgedAt, state }: Incident): string {
  return state === 'resolved' ? '' : acknowledgedAt === null ? ', nobody has acknowledged' : ', acknowledged'
}

function described({ incident, alerts, timeline }: IncidentDetail): string {
  const facts: [string, string][] = [
    ['severity', incident.severity],
    ['state', incident.state],
    ['component', incident.component ?? '–'],
    ['affected', incident.affected.length === 0 ? '–' : incident.affected.join(', ')],
    ['opened', `${time(incident.openedAt)}, by ${actorName(incident.openedBy)}`],
    ['respond by', time(incident.respondBy)],
    ['acknowledged', incident.acknowledgedBy === null ? '–' : `${time(incident.acknowledgedAt)}, by ${actorName(incident.acknowledgedBy)}`],
    [
      'escalates',
      incident.escalatedAt === null
        ? time(incident.acknowledgedAt === null ? incident.escalateAt : null)
        : `did, ${time(incident.escalatedAt)}`,
    ],
    ['next reminder', time(incident.nextReminderAt)],
    incident.partOf === null
      ? ['resolved', time(incident.resolvedAt)]
      : ['part of', `#${incident.partOf}, since ${time(incident.resolvedAt)}`],
    ['told', incident.channels.length === 0 ? 'nobody' : incident.channels.join(', ')],
    ['status page', incident.public ? `shown as "${incident.publicTitle ?? 'Service disruption'}"` : 'not shown'],
    ...(incident.rootCause === null ? [] : [['root cause', incident.rootCause] as [string, string]]),
    ['id', incident.id],
  ]
  return [
    `Incident ${incident.number}: ${incident.title}`,
    '',
    ...facts.map(([name, value]) => `${name.padEnd(14)} ${value}`),
    ...(alerts.length === 0
      ? []
      : [
          '',
          table(
            ['alert', 'since', 'clear', 'what'],
            alerts.map((one) => [one.rule, time(one.since), time(one.clearedAt), one.summary]),
          ),
        ]),
    ...(incident.checklist.length === 0
      ? []
      : ['', ...incident.checklist.map((item, index) => `[${item.doneAt === null ? ' ' : 'x'}] ${index + 1}. ${item.text}`)]),
    '',
    ...timeline.flatMap((event) => [
      `${time(event.at)}  ${describeEvent(event)}${event.public && incident.public ? ' (public)' : ''}`,
      ...(event.body === null ? [] : event.body.split('\n').map((line) => `${' '.repeat(25)}${line}`)),
    ]),
  ].join('\n')
}

function one(name: string, args: string[]): string {
  const [incident] = args
  if (incident === undefined || args.length > 1)
    throw new CaretakerError('bad_request', `\`caretaker ${name}\` takes the number of one incident, found ${args.length}.`)
  return incident
}

function publicFlag(flags: Record<string, unknown>): boolean | undefined {
  if (flags.public === true && flags.private === true)
    throw new CaretakerError('bad_request', '--public and --private: expected one of them, or neither.')
  return flags.public === true ? true : flags.private === true ? false : undefined
}

function wholeNumber(name: string, given: unknown): number {
  const value = Number(given)
  if (!Number.isInteger(value) || value < 1 || value > 1_000)
    throw new CaretakerError('invalid_input', `${name}: found "${String(given)}", expected a whole number from 1 to 1000.`)
  return value
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined
}

function time(date: Date | null): string {
  return date === null ? '–' : `${date.toISOString().slice(0, 19).replace('T', ' ')} UTC`
}
