import type { Message } from './channel.ts'

/*
 * What people read. The title says what is wrong and how bad; the lines say since when, what else suffers, and what to do.
 */

/** "[P0] Shop: database: refused the connection". */
export function title(message: Message): string {
  const { kind, payload, severity, app } = message
  const environment = message.environment === 'production' ? app : `${app} (${message.environment})`
  if (kind === 'watching') return `${environment}: ${payload.title}`
  // It is not over: another incident goes on with it.
  if (payload.partOf !== undefined) return `[${severity}] ${environment}: Part of #${payload.partOf}: ${payload.title}`
  const words = {
    opened: '',
    reminder: 'Still: ',
    escalation: 'Escalated: ',
    reopened: 'Again: ',
    raised: 'Worse: ',
    acknowledged: 'Acknowledged: ',
    resolved: 'Resolved: ',
    update: 'Update: ',
  }[kind]
  return `[${severity}] ${environment}: ${words}${payload.title}`
}

export interface Line {
  name: string
  value: string
  href?: string
}

/** The lines under the title, in the order in which somebody who was woken wants them. */
export function lines(message: Message): Line[] {
  const { kind, payload, unheard, link } = message
  const { summary, affected, since, until, respondBy, runbook, text, by, partOf, takesOver = [] } = payload
  const found: (Line | false)[] = [
    text !== undefined && { name: 'Message', value: text },
    kind === 'watching'
      ? { name: 'Nobody watched', value: `from ${moment(since)} to ${moment(until ?? message.at.toISOString())}` }
      : until === undefined || partOf !== undefined
        ? { name: 'Since', value: moment(since) }
        : { name: 'Lasted', value: `from ${moment(since)} to ${moment(until)} (${span(since, until)})` },
    by !== undefined && { name: 'By', value: by },
    // The title has it already where there is nothing else to say.
    summary !== undefined && summary !== payload.title && { name: 'What', value: summary },
    partOf !== undefined && { name: 'Part of', value: `#${partOf}, which goes on: nothing more is told of this one by itself.` },
    takesOver.length > 0 && { name: 'Takes over', value: takesOver.map((number) => `#${number}`).join(', ') },
    affected.length > 0 && { name: 'Also affected', value: affected.join(', ') },
    respondBy !== undefined && kind !== 'resolved' && { name: 'Respond by', value: moment(respondBy) },
    runbook !== undefined && { name: 'Runbook', value: runbook, href: runbook },
    payload.number > 0 && { name: 'Incident', value: `#${payload.number}`, ...(link === null ? {} : { href: link }) },
    unheard && { name: 'Note', value: 'Earlier messages about this could not be delivered here.' },
  ]
  return found.filter((line) => line !== false)
}

/** Title and lines as plain text. */
export function plainText(message: Message): string {
  return [
    title(message),
    '',
    ...lines(message).map(({ name, value, href }) => `${name}: ${value}${href === undefined || href === value ? '' : ` ${href}`}`),
  ].join('\n')
}

function moment(iso: string): string {
  return `${iso.slice(0, 10)} ${iso.slice(11, 16)} UTC`
}

function span(since: string, until: string): string {
  const minutes = Math.max(1, Math.round((new Date(until).getTime() - new Date(since).getTime()) / 60_000))
  if (minutes < 60) return `${minutes} min`
  const hours = Math.floor(minutes / 60)
  if (hours < 48) return minutes % 60 === 0 ? `${hours} h` : `${hours} h ${minutes % 60} min`
  return `${Math.round(hours / 24)} days`
}
