import { HttpResponse, http } from 'msw'

export interface PosthogEvent {
  api_key: string
  event: string
  distinct_id: string
  timestamp: string
  properties: Record<string, unknown>
}

/** PostHog's capture endpoint: takes an event of the project's key, and refuses what is none. https://posthog.com/docs/api/capture */
export function posthogCapture(state: { key: string; events: PosthogEvent[]; fails?: boolean }, host = 'https://us.i.posthog.com') {
  return [
    http.post(`${host}/i/v0/e/`, async ({ request }) => {
      if (state.fails === true) return HttpResponse.json({ detail: 'down' }, { status: 503 })
      if (request.headers.get('content-type') !== 'application/json')
        return HttpResponse.json({ type: 'validation_error' }, { status: 400 })
      const body = (await request.json()) as PosthogEvent
      if (body.api_key !== state.key) return HttpResponse.json({ type: 'authentication_error' }, { status: 401 })
      if (typeof body.event !== 'string' || typeof body.distinct_id !== 'string' || Number.isNaN(Date.parse(body.timestamp)))
        return HttpResponse.json({ type: 'validation_error' }, { status: 400 })
      state.events.push(body)
      return HttpResponse.json({ status: 'Ok' })
    }),
  ]
}
