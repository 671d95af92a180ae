import { delay, HttpResponse, http } from 'msw'
import { Webhook } from 'standardwebhooks'

/** An app that jobs call: it verifies each call as the library of Standard Webhooks does, and remembers what it was asked. */
export interface AppState {
  secret: string
  /** How it answers, call by call; when none is left, 200. */
  answers: (Response | 'hang' | 'break')[]
  calls: { method: string; path: string; id: string; body: string; job: string; slot: string }[]
}

export function appState(): AppState {
  return { secret: `whsec_${Buffer.alloc(32, 3).toString('base64')}`, answers: [], calls: [] }
}

export function appApi(state: AppState, origin = 'https://app.example') {
  return [
    http.all(`${origin}/*`, async ({ request }) => {
      const body = await request.text()
      const header = (name: string) => request.headers.get(name) ?? ''
      new Webhook(state.secret).verify(body, Object.fromEntries(request.headers))
      if (body !== '' && header('content-type') !== 'application/json') return new HttpResponse(null, { status: 415 })
      if (request.method === 'GET' && body !== '') return new HttpResponse(null, { status: 400 })
      const url = new URL(request.url)
      state.calls.push({
        method: request.method,
        path: url.pathname + url.search,
        id: header('webhook-id'),
        body,
        job: header('caretaker-job'),
        slot: header('caretaker-slot'),
      })
      const answer = state.answers.shift() ?? HttpResponse.json({ ok: true })
      if (answer === 'break') return HttpResponse.error()
      if (answer === 'hang') await delay('infinite')
      return answer as Response
    }),
  ]
}
