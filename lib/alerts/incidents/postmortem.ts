import type { Context } from '../../platform/context.ts'
import { describeEvent } from './describe-event.ts'
import { actorName } from './notify.ts'
import { severityOf } from './severities.ts'
import { type IncidentDetail, showIncident } from './show-incident.ts'

/**
 * A post-mortem of the incident as Markdown: what is known is filled in from the timeline, what only people know is left
 * to be written.
 * @throws {CaretakerError} `not_found`, `invalid_input`
 */
export async function postmortem(ctx: Pick<Context, 'db' | 'env' | 'config'>, named: string): Promise<string> {
  return renderPostmortem(ctx, await showIncident(ctx, named))
}

function renderPostmortem({ config }: Pick<Context, 'config'>, { incident, alerts, timeline }: IncidentDetail): string {
  const severity = severityOf(config, incident.severity)
  const since = new Date(Math.min(incident.openedAt.getTime(), ...alerts.map((one) => one.since.getTime())))
  const facts: [string, string][] = [
    ['Severity', severity.description === null ? severity.name : `${severity.name}: ${severity.description}`],
    ['Component', incident.component ?? 'none named'],
    ['Also affected', incident.affected.length === 0 ? 'nothing' : incident.affected.join(', ')],
    ['Began', utc(since)],
    ['Noticed', `${utc(incident.openedAt)}${after(since, incident.openedAt)}, by ${actorName(incident.openedBy)}`],
    [
      'Acknowledged',
      incident.acknowledgedAt === null || incident.acknowledgedBy === null
        ? 'never'
        : `${utc(incident.acknowledgedAt)}${after(incident.openedAt, incident.acknowledgedAt)}, by ${actorName(incident.acknowledgedBy)}`,
    ],
    ['Response', response(incident)],
    ['Escalated', incident.escalatedAt === null ? 'no' : `${utc(incident.escalatedAt)}${after(incident.openedAt, incident.escalatedAt)}`],
    [
      incident.partOf === null ? 'Resolved' : `Part of #${incident.partOf} since`,
      incident.resolvedAt === null || incident.resolvedBy === null
        ? `not yet: it is ${incident.state}`
        : `${utc(incident.resolvedAt)}${after(since, incident.resolvedAt)}, by ${actorName(incident.resolvedBy)}`,
    ],
    ...(incident.reopened === 0
      ? []
      : [['Came back', `${incident.reopened} ${incident.reopened === 1 ? 'time' : 'times'}`] as [string, string]]),
    ['Status page', incident.public ? 'shown' : 'not shown'],
  ]
  const lines = [
    `# Post-mortem of incident ${incident.number}: ${inline(incident.title)}`,
    '',
    ...(incident.state === 'resolved' ? [] : ['> The incident is not over: this is a draft.', '']),
    '| | |',
    '|---|---|',
    ...facts.map(([name, value]) => `| ${name} | ${cell(value)} |`),
    '',
    '## Summary',
    '',
    '_What happened, in two sentences that somebody who was not there understands._',
    '',
    '## Impact',
    '',
    '_Who was affected, for how long, and what they could not do._',
    '',
    ...(alerts.length === 0 ? [] : ['## Alerts', '', ...alerts.map(alertLine), '']),
    '## Timeline',
    '',
    'All times are UTC.',
    '',
    ...timeline.flatMap((event) => [
      `- ${clockTime(event.at, incident.openedAt)} ${inline(describeEvent(event))}`,
      ...(event.body === null ? [] : quoted(event.body).map((line) => `  ${line}`)),
    ]),
    '',
    '## Root cause',
    '',
    ...(incident.rootCause === null
      ? ['_Why it happened: ask why until the answer is something that can be changed._']
      : quoted(incident.rootCause)),
    '',
    '## What went well',
    '',
    '- ',
    '',
    '## What went badly',
    '',
    ...(late(incident) ? ['- Nobody acknowledged in the time there was for it.', '- '] : ['- ']),
    '',
    '## Prevention',
    '',
    '| what | who | until |',
    '|---|---|---|',
    '| | | |',
    '',
    '## Checklist',
    '',
    ...incident.checklist.map(({ text, doneAt, doneBy }) =>
      doneAt === null || doneBy === null
        ? `- [ ] ${inline(text)}`
        : `- [x] ${inline(text)} (${utc(new Date(doneAt))}, ${inline(actorName(doneBy))})`,
    ),
  ]
  return `${lines.join('\n').trimEnd()}\n`
}

function response(incident: IncidentDetail['incident']): string {
  const { respondBy, acknowledgedAt, openedAt } = incident
  if (respondBy === null) return 'no time is set for it'
  const expected = `expected by ${utc(respondBy)}${after(openedAt, respondBy)}`
  return late(incident) ? `${expected}: too late` : acknowledgedAt === null ? expected : `${expected}: in time`
}

function late({ respondBy, acknowledgedAt, responseMissedAt }: IncidentDetail['incident']): boolean {
  if (acknowledgedAt === null) return responseMissedAt !== null
  return respondBy !== null && acknowledgedAt > respondBy
}

function alertLine({ rule, summary, cause, since, clearedAt, runbook }: IncidentDetail['alerts'][number]): string {
  const until = clearedAt === null ? 'still firing' : `clear ${utc(clearedAt)}`
  const where = runbook === null ? '' : `; runbook: <${runbook}>`
  return `- ${inline(rule)}: ${inline(summary)}${cause === null ? '' : ` (${inline(cause)})`}, since ${utc(since)}, ${until}${where}`
}

function utc(at: Date): string {
  return `${at.toISOString().slice(0, 19).replace('T', ' ')} UTC`
}

/** Only the time on the day it was opened. */
function clockTime(at: Date, opened: Date): string {
  const [day, time] = at.toISOString().slice(0, 19).split('T') as [string, string]
  return opened.toISOString().startsWith(day) ? `**${time}**` : `**${day} ${time}**`
}

/** " (after 12 min)", or nothing where no time passed. */
function after(from: Date, to: Date): string {
  const seconds = Math.round((to.getTime() - from.getTime()) / 1_000)
  if (seconds <= 0) return ''
  const minutes = Math.round(seconds / 60)
  const text =
    seconds < 60
      ? `${seconds} s`
      : minutes < 60
        ? `${minutes} min`
        : minutes < 2_880
          ? `${Math.floor(minutes / 60)} h ${minutes % 60} min`
          : `${Math.floor(minutes / 1_440)} d ${Math.floor((minutes % 1_440) / 60)} h`
  return ` (after ${text})`
}

/** On one line, and nothing in it is markup. */
function inline(text: string): string {
  return text.replaceAll(/\s+/g, ' ').replaceAll(/[\\`*_[\]<>#|]/g, '\\$&')
}

function cell(text: string): string {
  return text.replaceAll(/\s+/g, ' ').replaceAll('|', '\\|').replaceAll('<', '&lt;')
}

/** What people wrote keeps its own Markdown, but no HTML, and cannot end the part that it stands in. */
function quoted(text: string): string[] {
  return text.split('\n').map((line) => `> ${line.replaceAll('<', '&lt;')}`)
}
