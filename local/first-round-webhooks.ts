import { createHmac, randomBytes } from 'node:crypto'
import type { Runtime } from '../lib/compose.ts'
import type { Policy, WebhookHandler } from '../lib/config/index.ts'
import { serveRoutes } from '../lib/http/index.ts'
import type { Context } from '../lib/platform/context.ts'
import { CaretakerError } from '../lib/platform/errors.ts'
import { webhooks } from '../lib/routes/webhooks.ts'

/** An event as its provider sends it, signed. */
export interface SignedEvent {
  source: 'stripe' | 'twilio'
  eventId: string
  path: string
  headers: Record<string, string>
  body: string
}

/** How often the handlers of a policy were called. */
export interface Calls {
  count: number
}

/** The policy, with a count of the calls of the two handlers that the first round brings events for. */
export function countCalls(policy: Policy, calls: Calls): Policy {
  if (policy.webhooks === undefined) return policy
  const { stripe, twilio } = policy.webhooks
  return {
    ...policy,
    webhooks: {
      ...policy.webhooks,
      ...(stripe === undefined ? {} : { stripe: { ...stripe, on: counted(stripe.on, 'invoice.paid', calls) } }),
      ...(twilio === undefined ? {} : { twilio: { ...twilio, on: counted(twilio.on, 'message.received', calls) } }),
    },
  }
}

function counted<H extends object>(handlers: H | undefined, type: keyof H, calls: Calls): H {
  const handler = handlers?.[type] as WebhookHandler | undefined
  if (handler === undefined) return { ...handlers } as H
  const counting: WebhookHandler = (...given) => {
    calls.count += 1
    return handler(...given)
  }
  return { ...handlers, [type]: counting } as H
}

/** https://docs.stripe.com/webhooks/signature */
export function paidInvoice(secret: string, now: Date): SignedEvent {
  const id = `in_first_round_${randomBytes(4).toString('hex')}`
  const seconds = Math.floor(now.getTime() / 1000)
  const invoice = { id, object: 'invoice', customer: null, amount_paid: 4900, currency: 'usd', status_transitions: { paid_at: seconds } }
  const event = { id: `evt_${id}`, object: 'event', type: 'invoice.paid', created: seconds, data: { object: invoice } }
  const body = JSON.stringify(event)
  const signature = createHmac('sha256', secret).update(`${seconds}.${body}`).digest('hex')
  return {
    source: 'stripe',
    eventId: event.id,
    path: '/api/webhooks/stripe',
    headers: { 'content-type': 'application/json; charset=utf-8', 'stripe-signature': `t=${seconds},v1=${signature}` },
    body,
  }
}

/** https://www.twilio.com/docs/usage/webhooks/webhooks-security. The numbers are set aside for stories: nobody has them. */
export function textMessage(token: string, publicUrl: string): SignedEvent {
  const path = '/api/webhooks/sms'
  const parameters = { Body: 'Called them', From: '+12005550100', MessageSid: `SM${randomBytes(16).toString('hex')}`, To: '+12005550199' }
  const signed = Object.entries(parameters).reduce((text, [name, value]) => text + name + value, publicUrl + path)
  return {
    source: 'twilio',
    eventId: parameters.MessageSid,
    path,
    headers: {
      'content-type': 'application/x-www-form-urlencoded',
      'x-twilio-signature': createHmac('sha1', token).update(signed).digest('base64'),
    },
    body: new URLSearchParams(parameters).toString(),
  }
}

/**
 * A provider repeats itself: delivers the event three times, and has it applied.
 * @param apply runs the job that applies what is in the inbox
 * @throws {CaretakerError} `conflict` unless its handler was called once, and it is in the inbox once, as applied
 */
export async function deliverThreeTimes(
  ctx: Context,
  runtime: Runtime,
  event: SignedEvent,
  calls: Calls,
  apply: () => Promise<unknown>,
): Promise<void> {
  const handle = serveRoutes(webhooks({ wake: () => Promise.resolve() }), (request) => runtime.context(request))
  const invocation = { clientAddress: '127.0.0.1', deadline: ctx.deadline, waitUntil: () => undefined }
  for (let time = 0; time < 3; time++) {
    const { body, headers, path } = event
    const response = await handle(new Request(`http://localhost${path}`, { method: 'POST', body, headers }), invocation)
    if (response.status !== 200)
      throw new CaretakerError('internal', `The event was answered with ${response.status}: ${await response.text()}`)
  }
  await apply()
  const states = await ctx.db.query<{ state: string }>('select state from caretaker.inbox where source = $1 and event_id = $2', [
    event.source,
    event.eventId,
  ])
  if (calls.count !== 1 || states.length !== 1 || states[0]?.state !== 'applied')
    throw new CaretakerError('conflict', `The event was applied ${calls.count} times.`)
}
