import { findJob, jobs } from '../../lib/catalog.ts'
import { claimManually, claimSlot, currentSlot, findRun, type Job, listRuns, nextSlots, type Run, work } from '../../lib/jobs/index.ts'
import type { Context } from '../../lib/platform/context.ts'
import { CaretakerError } from '../../lib/platform/errors.ts'
import { readOnlyDatabase } from '../../lib/platform/read-only.ts'
import type { Command } from '../command.ts'
import { duration, table } from '../output.ts'
import { describeLines, linesOf } from './plan.ts'

const list: Command = {
  name: 'jobs list',
  summary: 'Every job with its schedule, its next firing and its last run',
  async run({ context, out }) {
    const ctx = await context()
    const last = await lastRuns(ctx)
    const rows = jobs(ctx.config).map((job) => ({
      name: job.name,
      description: job.description,
      schedule: job.schedule,
      next: job.schedule === null ? null : (nextSlots(job.schedule, ctx.clock.now(), 1)[0] ?? null),
      last: last.get(job.name) ?? null,
    }))
    out.result(
      rows,
      table(
        ['job', 'schedule', 'next (UTC)', 'last (UTC)', 'what it does'],
        rows.map((row) => [
          row.name,
          row.schedule === null ? 'on demand' : `${row.schedule.cron}${row.schedule.timezone === 'UTC' ? '' : ` ${row.schedule.timezone}`}`,
          shortly(row.next),
          row.last === null ? null : `${row.last.state} ${shortly(row.last.slot)}`,
          row.description,
        ]),
      ),
    )
  },
}

const run: Command = {
  name: 'jobs run',
  usage: 'JOB [--dry-run] [--again]',
  summary: 'Run a job now, in its current slot: a slot that was worked already is not worked twice',
  options: {
    'dry-run': { type: 'boolean', about: 'say what it would do, and change nothing' },
    again: { type: 'boolean', about: 'once more, beside its schedule, though its slot was worked' },
  },
  async run({ args, flags, context, out }) {
    const [name, ...rest] = args
    if (name === undefined || rest.length > 0)
      throw new CaretakerError(
        'bad_request',
        `\`caretaker jobs run\` takes the name of one job, found ${args.length === 0 ? 'none' : args.map((arg) => `"${arg}"`).join(', ')}.`,
      )
    const ctx = await context()
    const all = jobs(ctx.config)
    const job = findJob(all, name)
    if (flags['dry-run'] === true) {
      const lines = await linesOf({ ...ctx, db: readOnlyDatabase(ctx.db) }, job)
      out.result(
        { job: job.name, dryRun: true, plan: lines },
        [`${job.name} would now`, ...describeLines(lines), 'Nothing was changed.'].join('\n'),
      )
      return
    }
    const { run: claimed, mine } = await claim(ctx, job, flags.again === true)
    out.progress(mine ? `${job.name}: working` : `${job.name}: this slot was claimed before`)
    await work(ctx, all, { until: claimed.id, onRun: (event, what) => out.progress(`${event.job}: ${what}`) })
    const ended = (await findRun(ctx.db, claimed.id)) ?? claimed
    const value = {
      job: job.name,
      slot: ended.slot,
      run: ended.id,
      state: ended.state,
      repeated: !mine,
      attempt: ended.attempt,
      result: ended.result,
      error: ended.error,
      startedAt: ended.started_at,
      finishedAt: ended.finished_at,
    }
    out.result(value, describe(ended, mine))
    if (ended.state === 'failed') process.exitCode = 1
  },
}

const history: Command = {
  name: 'jobs history',
  usage: '[JOB] [--limit 20]',
  summary: 'What ran, when, how long, and how it ended',
  options: { limit: { type: 'string', value: 'N', about: 'how many of the newest; 20 unless given' } },
  async run({ args, flags, context, out }) {
    const limit = Number(flags.limit ?? 20)
    if (!Number.isInteger(limit) || limit < 1 || limit > 1_000)
      throw new CaretakerError('invalid_input', `--limit: found "${String(flags.limit)}", expected a whole number from 1 to 1000.`)
    const ctx = await context()
    if (args[0] !== undefined) findJob(jobs(ctx.config), args[0])
    const runs = await listRuns(ctx, { ...(args[0] === undefined ? {} : { job: args[0] }), limit })
    out.result(
      runs,
      runs.length === 0
        ? 'Nothing has run yet: `caretaker jobs run JOB` runs a job now.'
        : table(
            ['job', 'slot (UTC)', 'kind', 'state', 'attempt', 'took', 'result'],
            runs.map((one) => [
              one.job,
              shortly(one.slot),
              one.kind,
              one.state,
              one.attempt,
              took(one),
              one.error?.detail ?? (one.result === null ? null : brief(one.result)),
            ]),
          ),
    )
  },
}

export const commands: Command[] = [list, run, history]

async function claim(ctx: Context, job: Job, again: boolean): Promise<{ run: Run; mine: boolean }> {
  const slot = job.schedule === null || again ? null : currentSlot(job.schedule, ctx.clock.now())
  if (slot === null) return { run: await claimManually(ctx, job.name), mine: true }
  const { run: claimed, claimed: mine } = await claimSlot(ctx, { job: job.name, slot, kind: 'manual' })
  return { run: claimed, mine }
}

async function lastRuns(ctx: Context): Promise<Map<string, { state: string; slot: Date }>> {
  const rows = await ctx.db.query<{ job: string; state: string; slot: Date }>(
    'select distinct on (job) job, state, slot from caretaker.runs order by job, slot desc',
  )
  return new Map(rows.map((row) => [row.job, row]))
}

function describe(ended: Run, mine: boolean): string {
  const slot = minute(ended.slot)
  if (ended.state === 'failed') return `${ended.job} failed: ${ended.error?.detail ?? 'no reason was recorded'}`
  const took =
    ended.started_at === null || ended.finished_at === null
      ? ''
      : ` in ${duration(ended.finished_at.getTime() - ended.started_at.getTime())}`
  const done = mine
    ? `${ended.job} is ${ended.state}${took} (slot ${slot})`
    : `The slot ${slot} of ${ended.job} was worked before: it is ${ended.state}. Nothing was done again; --again runs it beside its schedule.`
  return ended.result === null ? done : `${done}\n${JSON.stringify(ended.result, null, 2)}`
}

function took(one: Run): string | null {
  return one.started_at === null || one.finished_at === null ? null : duration(one.finished_at.getTime() - one.started_at.getTime())
}

function brief(result: Record<string, unknown>): string {
  const text = JSON.stringify(result)
  return text.length > 80 ? `${text.slice(0, 77)}…` : text
}

function minute(date: Date | null): string | null {
  return date === null ? null : `${date.toISOString().slice(0, 16).replace('T', ' ')} UTC`
}

/** Without the year and the zone: a column has little room. */
function shortly(date: Date | null): string | null {
  return date === null ? null : date.toISOString().slice(5, 16).replace('T', ' ')
}
