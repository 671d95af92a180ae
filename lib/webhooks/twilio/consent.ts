import type { Policy, WebhookHandler } from '../../config/index.ts'
import type { Env } from '../../platform/env.ts'
import { recordSuppression, suppressedBecause } from '../../platform/suppressions.ts'
import { type Keyword, recognise } from './keywords.ts'

/** https://www.twilio.com/docs/api/errors/21610: the recipient has opted out, said by a delivery that failed of it. */
const optedOutError = '21610'

/** What Caretaker itself makes of messages: the ledger of who may be written to, by which of our numbers. */
export function consentHandlers({ config, env }: { config: Policy; env: Env }): ReadonlyMap<string, WebhookHandler> {
  const received: WebhookHandler = async (event, tx, delivery) => {
    const message = event.data.object
    const { From: address, To: scope } = message
    if (typeof address !== 'string' || typeof scope !== 'string') return
    const said = keywordOf(message, config)
    if (said === null || said.keyword === 'help') return
    const { keyword, ambiguous } = said
    if (ambiguous && (await suppressedBecause(tx, env, { channel: 'sms', address, scope })) === null) return
    await recordSuppression(tx, env, {
      channel: 'sms',
      address,
      scope,
      action: keyword === 'stop' ? 'suppress' : 'allow',
      reason: keyword,
      at: delivery.receivedAt,
      source: delivery.source,
      eventId: event.id,
    })
  }
  const failed: WebhookHandler = async (event, tx, delivery) => {
    const { To: address, From: scope, ErrorCode: code } = event.data.object
    if (code !== optedOutError || typeof address !== 'string' || typeof scope !== 'string') return
    await recordSuppression(tx, env, {
      channel: 'sms',
      address,
      scope,
      action: 'suppress',
      reason: optedOutError,
      at: delivery.receivedAt,
      source: delivery.source,
      eventId: event.id,
    })
  }
  return new Map([
    ['message.received', received],
    ['message.failed', failed],
    ['message.undelivered', failed],
  ])
}

/** What a message asks for: as Twilio's own opt-out management has read it, where it is on, or by its words. */
export function keywordOf(message: Record<string, unknown>, config: Policy): { keyword: Keyword; ambiguous: boolean } | null {
  const managed = String(message.OptOutType ?? '').toLowerCase()
  if (managed === 'stop' || managed === 'start' || managed === 'help') return { keyword: managed, ambiguous: false }
  return typeof message.Body === 'string' ? recognise(message.Body, config.webhooks?.twilio) : null
}
