import type { Context } from '../../platform/context.ts'

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
 * @throws {CaretakerError} `not_configured` without SENDGRID_API_KEY and SENDGRID_FROM_EMAIL; `upstream_failed`, `timeout`
 */
export async function sendMail(ctx: Pick<Context, 'env' | 'fetch' | 'signal' | 'config'>, mail: Mail): Promise<void> {
  const { sendWithSendGrid } = await import('./sendgrid.ts')
  await sendWithSendGrid(ctx, mail)
}
