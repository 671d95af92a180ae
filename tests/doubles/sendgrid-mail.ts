import { HttpResponse, http } from 'msw'

/** What the double of SendGrid's mail API expects and has taken. */
export interface MailState {
  key: string
  sender: string
  sent: { to: string; subject: string; text: string }[]
  failWith?: number
}

interface MailSend {
  personalizations: { to: { email: string }[] }[]
  from: { email: string; name?: string }
  subject: string
  content: { type: string; value: string }[]
  tracking_settings?: { click_tracking?: { enable?: boolean; enable_text?: boolean } }
}

/** `POST /v3/mail/send`, as strict as the real one about what a message needs. */
export function sendgridMail(state: MailState) {
  return [
    http.post('https://api.sendgrid.com/v3/mail/send', async ({ request }) => {
      if (request.headers.get('authorization') !== `Bearer ${state.key}`) return HttpResponse.json({ errors: [{}] }, { status: 401 })
      if (request.headers.get('content-type') !== 'application/json') return HttpResponse.json({ errors: [{}] }, { status: 415 })
      const mail = (await request.json()) as MailSend
      const to = mail.personalizations[0]?.to[0]?.email
      const [content] = mail.content
      if (to === undefined || content?.type !== 'text/plain' || content.value === '' || mail.subject === '')
        return HttpResponse.json({ errors: [{}] }, { status: 400 })
      if (mail.from.email !== state.sender) return HttpResponse.json({ errors: [{}] }, { status: 403 })
      // A tracked link would hand the code to whoever rewrites it.
      if (mail.tracking_settings?.click_tracking?.enable !== false) return HttpResponse.json({ errors: [{}] }, { status: 400 })
      if (state.failWith !== undefined) return HttpResponse.json({ errors: [{}] }, { status: state.failWith })
      state.sent.push({ to, subject: mail.subject, text: content.value })
      return new HttpResponse(null, { status: 202 })
    }),
  ]
}
