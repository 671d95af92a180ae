import { HttpResponse, http } from 'msw'

/** An incident at PagerDuty, as its events have left it. */
export interface PagerDutyIncident {
  key: string
  state: 'triggered' | 'acknowledged' | 'resolved'
  summary: string
  severity: string
  /** How often it was triggered while it was open: these page nobody again. */
  repeats: number
}

export interface PagerDutyState {
  routingKey: string
  host: string
  /** Each event as it came: `trigger KEY`. */
  events: string[]
  incidents: PagerDutyIncident[]
  failWith?: number
  retryAfter?: string
}

export function pagerDutyState(): PagerDutyState {
  return { routingKey: '0123456789abcdef0123456789abcdef', host: 'events.pagerduty.com', events: [], incidents: [] }
}

interface Event {
  routing_key?: string
  event_action?: string
  dedup_key?: string
  payload?: { summary?: string; source?: string; severity?: string; timestamp?: string; custom_details?: unknown }
  links?: { href?: string; text?: string }[]
}

/** `POST /v2/enqueue` of the Events API, as strict as it, with its deduplication. https://developer.pagerduty.com/docs/events-api-v2/overview/ */
export function pagerDutyApi(state: PagerDutyState) {
  return [
    http.post(`https://${state.host}/v2/enqueue`, async ({ request }) => {
      if (state.failWith !== undefined)
        return HttpResponse.json(
          { status: 'throttle exceeded' },
          { status: state.failWith, ...(state.retryAfter === undefined ? {} : { headers: { 'retry-after': state.retryAfter } }) },
        )
      const event = (await request.json()) as Event
      const problems = problemsOf(event, state.routingKey)
      if (problems.length > 0)
        return HttpResponse.json({ status: 'invalid event', message: 'Event object is invalid', errors: problems }, { status: 400 })
      const { event_action: action = '', dedup_key: key = '', payload } = event
      state.events.push(`${action} ${key}`)
      const open = state.incidents.find((incident) => incident.key === key && incident.state !== 'resolved')
      if (action === 'trigger') {
        if (open === undefined)
          state.incidents.push({ key, state: 'triggered', summary: payload?.summary ?? '', severity: payload?.severity ?? '', repeats: 0 })
        else open.repeats++
      } else if (open !== undefined) open.state = action === 'resolve' ? 'resolved' : 'acknowledged'
      return HttpResponse.json({ status: 'success', message: 'Event processed', dedup_key: key }, { status: 202 })
    }),
  ]
}

function problemsOf({ routing_key: routing, event_action: action, dedup_key: key, payload, links }: Event, expected: string): string[] {
  const problems: string[] = []
  if (routing !== expected) problems.push("'routing_key' is invalid")
  if (!['trigger', 'acknowledge', 'resolve'].includes(action ?? '')) problems.push("'event_action' is invalid")
  if (key === undefined || key === '' || key.length > 255) problems.push("'dedup_key' is invalid")
  if (action !== 'trigger') return problems
  if (payload?.summary === undefined || payload.summary === '' || payload.summary.length > 1_024)
    problems.push("'payload.summary' is invalid")
  if (payload?.source === undefined || payload.source === '') problems.push("'payload.source' is missing or blank")
  if (!['critical', 'error', 'warning', 'info'].includes(payload?.severity ?? '')) problems.push("'payload.severity' is invalid")
  if (payload?.timestamp !== undefined && Number.isNaN(new Date(payload.timestamp).getTime()))
    problems.push("'payload.timestamp' is invalid")
  if (links?.some(({ href }) => href === undefined || !URL.canParse(href)) === true) problems.push("'links' is invalid")
  if (JSON.stringify(payload).length > 512 * 1024) problems.push('the event is larger than 512 KB')
  return problems
}
