import { jobs } from '../catalog.ts'
import { json, type Route, route } from '../http/index.ts'
import { work } from '../jobs/index.ts'
import { type Wake, wakeWorker } from './wake-worker.ts'

/** Takes queued runs until none is left or the invocation's time is up; then hands on to the next invocation. */
export const worker = ({ wake = wakeWorker }: { wake?: Wake } = {}): Route[] => [
  route({
    methods: ['POST'],
    path: '/api/worker',
    summary: 'Work off what is queued',
    auth: 'cron',
    limit: 'none',
    async handle(ctx) {
      // The caller does not wait for the end: its going away must not stop the work.
      const report = await work({ ...ctx, signal: new AbortController().signal }, jobs(ctx.config), { wake })
      if (report.more) await wake(ctx)
      await ctx.sentry.flush(2_000)
      return json(report)
    },
  }),
]
