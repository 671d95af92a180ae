import { json, type Route, route } from '../http/index.ts'
import { claimIfIdle } from '../jobs/index.ts'
import { receiveWebhook } from '../webhooks/index.ts'
import { type Wake, wakeWorker } from './wake-worker.ts'

/** Vercel takes 4.5 MB, Netlify 6: the smaller of the two. */
const bodyLimitBytes = 4_500_000

/** Accept = verify, store, acknowledge. What an event means is worked out after the answer. */
export const webhooks = ({ wake = wakeWorker }: { wake?: Wake } = {}): Route[] => [
  route({
    methods: ['POST'],
    path: '/api/webhooks/:source',
    summary: 'Take an event from a provider',
    auth: 'signature',
    limit: 'none',
    body: 'bytes',
    bodyLimitBytes,
    async handle(ctx, { params, body, request, afterwards }) {
      const receipt = await receiveWebhook(ctx, params.source as string, { headers: request.headers, body })
      // Not durable on either host, and it need not be: the event is in the inbox, and every tick looks there.
      // A policy without webhooks has no job for it; the event waits for one that has.
      if (!receipt.duplicate && ctx.config.webhooks !== undefined)
        afterwards(claimIfIdle(ctx, 'webhooks').then((claimed) => (claimed ? wake(ctx) : undefined)))
      return json({ received: true, duplicate: receipt.duplicate })
    },
  }),
]
