import type { Context } from '../../platform/context.ts'
import { requireEnv } from '../../platform/env.ts'
import { CaretakerError } from '../../platform/errors.ts'
import type { Mail } from './index.ts'

const answerLimitMs = 15_000

/** One POST, so no client library. https://www.twilio.com/docs/sendgrid/api-reference/mail-send/mail-send */
export async function sendWithSendGrid(ctx: Pick<Context, 'env' | 'fetch' | 'signal' | 'config'>, mail: Mail): Promise<void> {
  const key = requireEnv(ctx.env, 'SENDGRID_API_KEY', 'Sending mail')
  const from = requireEnv(ctx.env, 'SENDGRID_FROM_EMAIL', 'Sending mail')
  const response = await ctx
    .fetch('https://api.sendgrid.com/v3/mail/send', {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      body: JSON.stringify({
        personalizations: [{ to: [{ email: mail.to }] }],
        from: { email: from, name: ctx.config.app.name },
        subject: mail.subject,
        content: [{ type: 'text/plain', value: mail.text }],
        // A rewritten link would show the code in it to somebody else, and an opened mail is nobody's business.
        tracking_settings: { click_tracking: { enable: false, enable_text: false }, open_tracking: { enable: false } },
      }),
      signal: AbortSignal.any([ctx.signal, AbortSignal.timeout(answerLimitMs)]),
    })
    .catch((cause: unknown) => {
      throw new CaretakerError('upstream_failed', 'SendGrid was not reached; the message was not sent.', { cause, retryAfterSeconds: 60 })
    })
  await response.body?.cancel().catch(() => undefined)
  if (response.ok) return
  throw new CaretakerError(
    'upstream_failed',
    response.status === 401 || response.status === 403
      ? `SendGrid answered ${response.status}: SENDGRID_API_KEY lacks "Mail Send", or SENDGRID_FROM_EMAIL is not a verified sender.`
      : `SendGrid answered ${response.status}; the message was not sent.`,
    { retryAfterSeconds: 60 },
  )
}
