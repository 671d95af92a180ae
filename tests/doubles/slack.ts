import { delay, HttpResponse, http } from 'msw'

/** What the double of Slack's incoming webhooks has taken, and how it fails. */
export interface SlackState {
  /** The path after the host: it is the secret. */
  path: string
  sent: { text: string; body: string }[]
  failWith?: number
  retryAfter?: string
  /** Takes the message and never answers. */
  hangs?: boolean
  /** Answers like this instead of as it should: a lying proxy. */
  lies?: boolean
}

export function slackState(): SlackState {
  return { path: '/services/T0/B0/secret', sent: [] }
}

interface Section {
  type: string
  text?: { type: string; text: string }
}

/** `POST https://hooks.slack.com/services/…`, as strict as the real one about what a message needs and how long it may be. */
export function slackApi(state: SlackState) {
  return [
    http.post('https://hooks.slack.com/services/*', async ({ request }) => {
      if (new URL(request.url).pathname !== state.path) return HttpResponse.text('no_service', { status: 404 })
      if (state.failWith !== undefined)
        return HttpResponse.text('failed', {
          status: state.failWith,
          ...(state.retryAfter === undefined ? {} : { headers: { 'retry-after': state.retryAfter } }),
        })
      if (request.headers.get('content-type') !== 'application/json') return HttpResponse.text('invalid_payload', { status: 400 })
      const message = (await request.json()) as { text?: unknown; attachments?: { color?: string; blocks?: Section[] }[] }
      const blocks = message.attachments?.flatMap(({ blocks: own }) => own ?? []) ?? []
      const body = blocks.map(({ text }) => text?.text ?? '').join('\n')
      if (typeof message.text !== 'string' || message.text === '' || message.text.length > 40_000)
        return HttpResponse.text('no_text', { status: 400 })
      // https://docs.slack.dev/reference/block-kit/blocks/section-block
      if (
        blocks.length > 50 ||
        blocks.some(({ type, text }) => type !== 'section' || text === undefined || text.text.length < 1 || text.text.length > 3_000)
      )
        return HttpResponse.text('invalid_blocks', { status: 400 })
      // Whoever is mentioned is woken: a message of ours mentions nobody.
      if (/<[!@#]/.test(`${message.text}${body}`)) return HttpResponse.text('invalid_payload', { status: 400 })
      state.sent.push({ text: message.text, body })
      if (state.hangs === true) await delay('infinite')
      return HttpResponse.text('ok')
    }),
  ]
}
