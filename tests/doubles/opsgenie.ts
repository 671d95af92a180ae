import { HttpResponse, http } from 'msw'

export interface OpsgenieAlert {
  alias: string
  message: string
  priority: string
  state: 'open' | 'acknowledged' | 'closed'
  count: number
  notes: string[]
}

export interface OpsgenieState {
  key: string
  base: string
  alerts: OpsgenieAlert[]
  failWith?: number
}

export function opsgenieState(): OpsgenieState {
  return { key: 'eb243592-faa2-4ba2-a551-1afdf565c889', base: 'https://api.opsgenie.com', alerts: [] }
}

interface Create {
  message?: string
  alias?: string
  description?: string
  priority?: string
  tags?: string[]
  details?: Record<string, unknown>
  entity?: string
  source?: string
}

/** The alert API, as strict as it: `POST /v2/alerts` and the actions on one by its alias. https://docs.opsgenie.com/docs/alert-api */
export function opsgenieApi(state: OpsgenieState) {
  const refusal = (request: Request) => {
    if (request.headers.get('authorization') !== `GenieKey ${state.key}`)
      return HttpResponse.json({ message: 'Key format is not valid!' }, { status: 401 })
    if (state.failWith !== undefined) return HttpResponse.json({ message: 'failed' }, { status: state.failWith })
    return undefined
  }
  const accepted = () =>
    HttpResponse.json({ result: 'Request will be processed', took: 0.1, requestId: crypto.randomUUID() }, { status: 202 })
  return [
    http.post(`${state.base}/v2/alerts`, async ({ request }) => {
      const refused = refusal(request)
      if (refused !== undefined) return refused
      const alert = (await request.json()) as Create
      const detailLength = Object.entries(alert.details ?? {}).reduce((sum, [name, value]) => sum + name.length + String(value).length, 0)
      const bad =
        !within(alert.message, 1, 130) ||
        !within(alert.alias, 1, 512) ||
        !within(alert.description ?? '', 0, 15_000) ||
        !/^P[1-5]$/.test(alert.priority ?? 'P3') ||
        (alert.tags ?? []).length > 20 ||
        (alert.tags ?? []).some((tag) => tag.length > 50) ||
        !within(alert.entity ?? '', 0, 512) ||
        !within(alert.source ?? '', 0, 100) ||
        detailLength > 8_000
      if (bad) return HttpResponse.json({ message: 'Request body is not processable.' }, { status: 422 })
      const { alias = '', message = '', priority = 'P3' } = alert
      const open = state.alerts.find((one) => one.alias === alias && one.state !== 'closed')
      if (open === undefined) state.alerts.push({ alias, message, priority, state: 'open', count: 1, notes: [] })
      else open.count++
      return accepted()
    }),
    http.post(`${state.base}/v2/alerts/:alias/:action`, async ({ request, params }) => {
      const refused = refusal(request)
      if (refused !== undefined) return refused
      const { note } = (await request.json()) as { note?: string }
      const action = String(params.action)
      if (new URL(request.url).searchParams.get('identifierType') !== 'alias' || !['acknowledge', 'close', 'notes'].includes(action))
        return HttpResponse.json({ message: 'not found' }, { status: 404 })
      if (!within(note ?? '', action === 'notes' ? 1 : 0, 25_000)) return HttpResponse.json({ message: 'unprocessable' }, { status: 422 })
      // What it does not know is accepted as well: the answer says only that it was heard.
      const alert = state.alerts.find((one) => one.alias === decodeURIComponent(String(params.alias)) && one.state !== 'closed')
      if (alert !== undefined) {
        if (action === 'acknowledge') alert.state = 'acknowledged'
        if (action === 'close') alert.state = 'closed'
        if (note !== undefined) alert.notes.push(note)
      }
      return accepted()
    }),
  ]
}

function within(text: string | undefined, least: number, most: number): boolean {
  return text !== undefined && text.length >= least && text.length <= most
}
