import { actorName } from './notify.ts'
import type { IncidentEvent } from './show-incident.ts'

/** A row of the timeline in words, without what was written: "acknowledged by support 1f3a…". */
export function describeEvent({ kind, actor, detail }: Pick<IncidentEvent, 'kind' | 'actor' | 'detail'>): string {
  const by = actorName(actor)
  const text = (key: string) => (typeof detail[key] === 'string' ? detail[key] : '')
  const list = (key: string) => (Array.isArray(detail[key]) ? detail[key].map(String).join(', ') : '')
  const told = list('channels') === '' ? 'nobody was told' : `told ${list('channels')}`
  switch (kind) {
    case 'opened':
      return `opened as ${text('severity')} by ${by}; ${told}`
    case 'alert_firing':
      return `${by} fires: ${text('summary')}`
    case 'alert_clear':
      return text('explainedBy') === '' ? `${by} is clear` : `${by} comes from ${text('explainedBy')}`
    case 'reopened':
      return `came back (${by}); ${told}`
    case 'severity':
      return `severity ${text('from')} became ${text('to')}, by ${by}${text('reason') === '' ? '' : `: ${text('reason')}`}`
    case 'acknowledged':
      return `acknowledged by ${by}`
    case 'response_missed':
      return 'nobody acknowledged in the time there was for it'
    case 'escalated':
      return `escalated; ${told}`
    case 'reminded':
      return `reminded; ${told}`
    case 'state':
    case 'update':
      return `${text('to') === '' ? 'update' : text('to')} by ${by}`
    case 'note':
      if (typeof detail.takesOver === 'number') return `takes over #${detail.takesOver} (${text('component')})`
      if (text('joined') !== '') return `${text('joined')} began to fail, too`
      return 'public' in detail
        ? `${detail.public === true ? 'put on' : 'taken off'} the status page by ${by}`
        : 'publicTitle' in detail
          ? `named "${text('publicTitle')}" on the status page by ${by}`
          : 'channels' in detail
            ? `${told}, for ${by}`
            : `note by ${by}`
    case 'checked':
      return `${detail.done === true ? 'done' : 'not done'}: ${text('text')} (${by})`
    case 'root_cause':
      return `root cause, by ${by}`
    case 'resolved':
      if (typeof detail.partOf === 'number') return `ended as part of #${detail.partOf}`
      return `resolved by ${by}`
  }
}
