import { json, type Route, route } from '../http/index.ts'
import { claimIfIdle } from '../jobs/index.ts'
import type { Context } from '../platform/context.ts'
import { CaretakerError, hasCode } from '../platform/errors.ts'
import { floodGuard, receiveLogs, receiveWebhook, reportFlood } from '../webhooks/index.ts'
import { type Wake, wakeWorker } from './wake-worker.ts'

/** Vercel takes 4.5 MB, Netlify 6: the smaller of the two. */
const bodyLimitBytes = 4_500_000

/** Accept = verify, store, acknowledge. What an event means is worked out after the answer. */
export const webhooks = ({ wake = wakeWorker }: { wake?: Wake } = {}): Route[] => {
  const flood = floodGuard()

  /** Whatever `receive` does; where its signature is refused again and again, the sender is told to wait. */
  async function guarded<T>(ctx: Context, source: string, { afterwards }: Input, receive: () => Promise<T>): Promise<T> {
    try {
      return await receive()
    } catch (error) {
      if (!hasCode(error, 'signature_invalid')) throw error
      const { retryAfterSeconds, report } = flood.refused(source, ctx.clock.now())
      if (report) afterwards(reportFlood(ctx, source))
      if (retryAfterSeconds === null) throw error
      throw new CaretakerError('rate_limited', 'Too many requests whose signature is not accepted. Please wait before trying again.', {
        retryAfterSeconds,
      })
    }
  }

  async function take(ctx: Context, source: string, input: Input): Promise<Response> {
    const { request, body, afterwards } = input
    const { pathname, search } = new URL(request.url)
    const given = { headers: request.headers, body, target: pathname + search }
    const receipt = await guarded(ctx, source, input, () => receiveWebhook(ctx, source, given))
    // Not durable on either host, and it need not be: the event is in the inbox, and every tick looks there.
    // A policy without webhooks has no job for it; the event waits for one that has.
    if (!receipt.duplicate && ctx.config.webhooks !== undefined)
      afterwards(claimIfIdle(ctx, 'webhooks').then((claimed) => (claimed ? wake(ctx) : undefined)))
    if (receipt.answer !== undefined) return new Response(receipt.answer.body, { headers: { 'content-type': receipt.answer.mediaType } })
    return json({ received: true, duplicate: receipt.duplicate })
  }

  const common = { methods: ['POST'], auth: 'signature', limit: 'none', body: 'bytes', bodyLimitBytes } as const
  return [
    route({
      ...common,
      path: '/api/webhooks/logs',
      summary: "Count what a host's log drain sends",
      handle: async (ctx, input) =>
        json(await guarded(ctx, 'logs', input, () => receiveLogs(ctx, { headers: input.request.headers, body: input.body }))),
    }),
    route({
      ...common,
      path: '/api/webhooks/:source',
      summary: 'Take an event from a provider',
      handle: (ctx, { params, ...input }) => take(ctx, params.source as string, input),
    }),
    route({
      ...common,
      path: '/api/webhooks/sms/status',
      summary: 'Take what became of a message that Twilio sent',
      handle: (ctx, input) => take(ctx, 'sms/status', input),
    }),
  ]
}

interface Input {
  request: Request
  body: Uint8Array
  afterwards(work: Promise<unknown>): void
}
