import * as z from 'zod/mini'
// Queries alone: the rest of backups weighs what a worker's bundle weighs.
import { readCoverage } from '../backup/coverage.ts'
import { pinnedSigners } from '../backup/signing/pinned-signers.ts'
import { findJob, jobs } from '../catalog.ts'
import { json, type Route, route } from '../http/index.ts'
import { claimManually, listRuns, nextSlots, runStates } from '../jobs/index.ts'
import { type Wake, wakeWorker } from './wake-worker.ts'

/** Jobs, runs and backups over HTTP. */
export const opsApi = ({ wake = wakeWorker }: { wake?: Wake } = {}): Route[] => [
  route({
    methods: ['GET'],
    path: '/api/ops/jobs',
    summary: 'Every job with its schedule and next firing',
    auth: { operator: ['admin', 'developer', 'support', 'viewer'] },
    limit: 'standard',
    async handle(ctx) {
      const now = ctx.clock.now()
      return json({
        jobs: jobs(ctx.config).map(({ name, description, schedule }) => ({
          name,
          description,
          schedule,
          next: schedule === null ? null : (nextSlots(schedule, now, 1)[0] ?? null),
        })),
      })
    },
  }),
  route({
    methods: ['GET'],
    path: '/api/ops/runs',
    summary: 'The newest runs',
    auth: { operator: ['admin', 'developer', 'support', 'viewer'] },
    limit: 'standard',
    query: z.object({
      job: z.optional(z.string()),
      state: z.optional(z.enum(runStates)),
      limit: z._default(z.string().check(z.regex(/^([1-9]\d{0,2}|1000)$/, 'expected a whole number from 1 to 1000')), '50'),
    }),
    async handle(ctx, { query }) {
      const { job, state, limit } = query
      const runs = await listRuns(ctx, {
        ...(job === undefined ? {} : { job }),
        ...(state === undefined ? {} : { state }),
        limit: Number(limit),
      })
      return json({ runs })
    },
  }),
  route({
    methods: ['GET'],
    path: '/api/ops/backups',
    summary: 'What would be lost, and how long it would take, if the database died now',
    auth: { operator: ['admin', 'developer', 'support', 'viewer'] },
    limit: 'standard',
    async handle(ctx) {
      // As of the last backup, increment or drill: the store itself is asked by `caretaker backup list`.
      return json({ loss: await readCoverage(ctx.db, ctx.clock.now()), signers: await pinnedSigners(ctx.db) })
    },
  }),
  route({
    methods: ['POST'],
    path: '/api/ops/jobs/:job/run',
    summary: 'Run a job now, beside its schedule',
    auth: { operator: ['admin', 'developer'] },
    limit: 'sensitive',
    async handle(ctx, { params }) {
      const job = findJob(jobs(ctx.config), params.job as string)
      const run = await claimManually(ctx, job.name)
      await wake(ctx)
      return json({ job: job.name, run: run.id, slot: run.slot, state: run.state }, { status: 202 })
    },
  }),
]
