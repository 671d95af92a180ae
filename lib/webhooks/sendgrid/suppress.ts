import type { WebhookHandler } from '../../config/index.ts'
import type { Env } from '../../platform/env.ts'
import { recordSuppression } from '../../platform/suppressions.ts'
import { instant, type JsonObject } from '../sources/json.ts'

interface Verdict {
  action: 'suppress' | 'allow'
  reason: string
  scope?: string
}

/** https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event */
const verdicts: Record<string, (event: JsonObject) => Verdict | null> = {
  // A block is the receiving server's mood (a full mailbox, a bad day of ours); only a bounce says there is nobody.
  bounce: (event) => (event.type === 'blocked' ? null : { action: 'suppress', reason: 'bounce' }),
  dropped: ({ reason }) =>
    /bounced|invalid|unsubscribed|spam report/i.test(String(reason)) ? { action: 'suppress', reason: 'dropped' } : null,
  spamreport: () => ({ action: 'suppress', reason: 'spam' }),
  unsubscribe: () => ({ action: 'suppress', reason: 'unsubscribe' }),
  group_unsubscribe: (event) => inGroup(event, 'suppress', 'unsubscribe'),
  group_resubscribe: (event) => inGroup(event, 'allow', 'resubscribe'),
}

/** What Caretaker itself makes of SendGrid's events: the ledger of who may be written to. */
export function suppressionHandlers({ env }: { env: Env }): ReadonlyMap<string, WebhookHandler> {
  return new Map(
    Object.entries(verdicts).map(([name, judge]): [string, WebhookHandler] => [
      `email.${name}`,
      async (event, tx, delivery) => {
        const object = event.data.object
        const verdict = judge(object)
        if (verdict === null || typeof object.email !== 'string') return
        await recordSuppression(tx, env, {
          channel: 'email',
          address: object.email,
          ...verdict,
          at: instant(object.timestamp) ?? delivery.receivedAt,
          source: delivery.source,
          eventId: event.id,
        })
      },
    ]),
  )
}

function inGroup(event: JsonObject, action: Verdict['action'], reason: string): Verdict | null {
  return typeof event.asm_group_id === 'number' ? { action, reason, scope: `group:${event.asm_group_id}` } : null
}
