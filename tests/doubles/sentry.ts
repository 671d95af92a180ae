import { HttpResponse, http } from 'msw'

export interface SentryState {
  dsn: string
  /** The events accepted so far. */
  events: SentryEvent[]
  /** Every byte that was sent, to hold against secrets. */
  sent: string[]
  /** Answer with this status instead. */
  failWith: number | null
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
  return { dsn: 'https://0123456789abcdef0123456789abcdef@o42.ingest.sentry.test/4711', events: [], sent: [], failWith: null }
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
      if (typeof id !== 'string' || typeof sentAt !== 'string') return HttpResponse.json({ detail: 'bad envelope' }, { status: 400 })
      for (let line = 0; line + 1 < lines.length; line += 2) {
        const { type } = JSON.parse(lines[line] as string) as { type: string }
        if (type !== 'event') return HttpResponse.json({ detail: `unexpected item ${type}` }, { status: 400 })
        state.events.push(JSON.parse(lines[line + 1] as string) as SentryEvent)
      }
      return HttpResponse.json({ id })
    }),
  ]
}
