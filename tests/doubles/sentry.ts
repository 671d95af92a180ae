import { HttpResponse, http } from 'msw'

export interface SentryState {
  dsn: string
  /** The events accepted so far. */
  events: SentryEvent[]
  /** The check-ins of cron monitors accepted so far. */
  checkIns: SentryCheckInItem[]
  /** Every byte that was sent, to hold against secrets. */
  sent: string[]
  /** Answer with this status instead. */
  failWith: number | null
}

export interface SentryCheckInItem {
  check_in_id: string
  monitor_slug: string
  status: string
  environment: string
  release?: string
  duration?: number
  monitor_config?: {
    schedule: { type: 'crontab'; value: string } | { type: 'interval'; value: number; unit: string }
    checkin_margin: number
    max_runtime: number
    timezone?: string
  }
}

/** What Sentry refuses of a check-in; undefined where it takes it. */
function badCheckIn(item: SentryCheckInItem): string | undefined {
  const { check_in_id: id, monitor_slug: slug, status, duration, monitor_config: monitor } = item
  if (!/^[0-9a-f]{32}$/.test(id)) return 'check_in_id'
  if (!/^[a-z0-9_-]{1,50}$/.test(slug)) return 'monitor_slug'
  if (!['in_progress', 'ok', 'error'].includes(status)) return 'status'
  if (duration !== undefined && (status === 'in_progress' || !(duration >= 0))) return 'duration'
  if (monitor === undefined) return undefined
  if (monitor.schedule.type === 'crontab' && !/^[\d*,/-]+( [\d*,/-]+){4}$/.test(monitor.schedule.value)) return 'schedule'
  if (monitor.schedule.type === 'interval' && !(monitor.schedule.value >= 1)) return 'schedule'
  const minutes = [monitor.checkin_margin, monitor.max_runtime]
  return minutes.every((value) => Number.isInteger(value) && value >= 1) ? undefined : 'checkin_margin or max_runtime'
}

export interface SentryEvent {
  level: string
  environment: string
  release?: string
  tags: Record<string, string>
  exception: {
    values: { type: string; value: string; stacktrace?: { frames: { filename: string; lineno: number; function: string }[] } }[]
  }
  [field: string]: unknown
}

export function sentryState(): SentryState {
  return { dsn: 'https://0123456789abcdef0123456789abcdef@o42.ingest.sentry.test/4711', events: [], checkIns: [], sent: [], failWith: null }
}

/** Takes envelopes as Sentry does: key in the query or a header, a header line, then pairs of item header and payload. */
export function sentryApi(state: SentryState) {
  return [
    http.post('https://o42.ingest.sentry.test/api/4711/envelope/', async ({ request }) => {
      const text = await request.text()
      state.sent.push(request.url, JSON.stringify([...request.headers]), text)
      if (state.failWith !== null) return HttpResponse.json({}, { status: state.failWith })
      const key = new URL(request.url).searchParams.get('sentry_key')
      if (key !== '0123456789abcdef0123456789abcdef') return HttpResponse.json({ detail: 'bad key' }, { status: 401 })
      const [head = '', ...lines] = text.trimEnd().split('\n')
      const { event_id: id, sent_at: sentAt } = JSON.parse(head) as Record<string, unknown>
      if (typeof sentAt !== 'string') return HttpResponse.json({ detail: 'bad envelope' }, { status: 400 })
      for (let line = 0; line + 1 < lines.length; line += 2) {
        const { type } = JSON.parse(lines[line] as string) as { type: string }
        const item = JSON.parse(lines[line + 1] as string) as unknown
        if (type === 'check_in') {
          const bad = badCheckIn(item as SentryCheckInItem)
          if (bad !== undefined) return HttpResponse.json({ detail: `bad ${bad}` }, { status: 400 })
          state.checkIns.push(item as SentryCheckInItem)
        } else {
          if (type !== 'event') return HttpResponse.json({ detail: `unexpected item ${type}` }, { status: 400 })
          if (typeof id !== 'string') return HttpResponse.json({ detail: 'an event without an id' }, { status: 400 })
          state.events.push(item as SentryEvent)
        }
      }
      return HttpResponse.json({ id })
    }),
  ]
}
