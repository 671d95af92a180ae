import { createHash } from 'node:crypto'
import { mailConfigured, sendMail } from '../../drivers/mail/index.ts'
import { sendWithSendGrid } from '../../drivers/mail/sendgrid.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { type Channel, clipped, type Outcome, oneLine } from './channel.ts'
import { plainText, title } from './text.ts'

/** A mail to each recipient. Who has it is noted, so that a second attempt writes to the others alone. */
export function emailChannel(name: string, to: readonly string[]): Channel {
  return {
    name,
    kind: 'email',
    paceMs: 0,
    async send(ctx, message): Promise<Outcome> {
      if (!mailConfigured(ctx))
        throw new CaretakerError(
          'not_configured',
          `The channel "${name}" needs SENDGRID_API_KEY and SENDGRID_FROM_EMAIL, which are not set.`,
        )
      const reached = [...message.reached]
      let refused = 0
      for (const address of to) {
        const tag = recipientTag(message.id, address)
        if (reached.includes(tag)) continue
        try {
          const mail = { to: address, subject: clipped(oneLine(title(message)), 200), text: plainText(message) }
          if (message.direct === true) await sendWithSendGrid(ctx, mail)
          else await sendMail(ctx, mail)
        } catch (error) {
          if (!(error instanceof CaretakerError)) throw error
          // The others may still be written to; who bounced for good is not waited for.
          if (error.code === 'suppressed') refused++
          else return { state: 'failed', status: null, code: error.code, reached }
        }
        reached.push(tag)
      }
      return refused === to.length
        ? { state: 'failed', status: null, code: 'suppressed', spoilt: true }
        : { state: 'delivered', status: null }
    },
  }
}

/** Tells recipients apart within one message, and says nothing to anybody else. */
function recipientTag(id: string, address: string): string {
  return createHash('sha256').update(`${id}\0${address.toLowerCase()}`).digest('base64url').slice(0, 16)
}
