import type { Context } from '../../platform/context.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { suppressedBecause } from '../../platform/suppressions.ts'

/** One message to one person. Text only: it holds a link at most, and every client shows it. */
export interface Mail {
  to: string
  subject: string
  text: string
}

/** Whether mail can be sent at all. */
export function mailConfigured(ctx: Pick<Context, 'env'>): boolean {
  return ctx.env.SENDGRID_API_KEY !== undefined && ctx.env.SENDGRID_FROM_EMAIL !== undefined
}

/**
 * Sends one message. Never inside a transaction: it cannot be taken back.
 * @throws {CaretakerError} `suppressed` for an address that bounced or complained; `not_configured` without SENDGRID_API_KEY and
 * SENDGRID_FROM_EMAIL; `upstream_failed`, `timeout`
 */
export async function sendMail(ctx: Pick<Context, 'db' | 'env' | 'fetch' | 'signal' | 'config'>, mail: Mail): Promise<void> {
  const because = await suppressedBecause(ctx.db, ctx.env, { channel: 'email', address: mail.to })
  // What a person has asked for is answered even if they want no newsletter.
  if (because !== null && because !== 'unsubscribe')
    throw new CaretakerError('suppressed', `The message was not sent: its address must not be written to (${because}).`)
  const { sendWithSendGrid } = await import('./sendgrid.ts')
  await sendWithSendGrid(ctx, mail)
}
