import { findJob, jobs } from '../../lib/catalog.ts'
import {
  claimManually,
  claimSlot,
  currentSlot,
  findRun,
  type Job,
  lastRuns,
  listRuns,
  nextSlots,
  planningTime,
  type Run,
  type RunState,
  runStates,
  work,
} from '../../lib/jobs/index.ts'
import type { Actor } from '../../lib/platform/actor.ts'
import type { Context } from '../../lib/platform/context.ts'
import { CaretakerError } from '../../lib/platform/errors.ts'
import { readOnlyDatabase } from '../../lib/platform/read-only.ts'
import type { Command } from '../command.ts'
import { bytes, duration, table } from '../output.ts'
import { describeLines, linesOf } from './plan.ts'

const list: Command = {
  name: 'jobs list',
  summary: 'Every job with its schedule, its next firing and its last run',
  async run({ context, out }) {
    const ctx = await context()
    const all = jobs(ctx.config)
    const last = await lastRuns(
      ctx,
      all.map(({ name }) => name),
    )
    const rows = all.map((job) => ({
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
    // Also where somebody stopped it: what calls this must not take it for done.
    if (ended.state !== 'done' && ended.state !== 'skipped') process.exitCode = 1
  },
}

const history: Command = {
  name: 'jobs history',
  usage: '[JOB] [--state STATE] [--limit 20]',
  summary: 'What ran, who asked for it, how long it took, what it did, and how it ended',
  options: {
    limit: { type: 'string', value: 'N', about: 'how many of the newest; 20 unless given' },
    state: { type: 'string', value: 'STATE', about: `only those that are ${runStates.join(', ')}` },
  },
  async run({ args, flags, context, out }) {
    const limit = Number(flags.limit ?? 20)
    if (!Number.isInteger(limit) || limit < 1 || limit > 1_000)
      throw new CaretakerError('invalid_input', `--limit: found "${String(flags.limit)}", expected a whole number from 1 to 1000.`)
    const state = flags.state as RunState | undefined
    if (state !== undefined && !runStates.includes(state))
      throw new CaretakerError('invalid_input', `--state: found "${String(state).slice(0, 40)}", expected ${runStates.join(', ')}.`)
    const ctx = await context()
    if (args[0] !== undefined) findJob(jobs(ctx.config), args[0])
    const runs = await listRuns(ctx, {
      ...(args[0] === undefined ? {} : { job: args[0] }),
      ...(state === undefined ? {} : { state }),
      limit,
    })
    out.result(
      runs.map((one) => ({ ...one, ...countsOf(one) })),
      runs.length === 0
        ? 'Nothing has run yet: `caretaker jobs run JOB` runs a job now.'
        : table(
            ['job', 'slot (UTC)', 'kind', 'asked by', 'state', 'takings', 'took', 'rows', 'size', 'batches', 'how it went'],
            runs.map((one) => {
              const counts = countsOf(one)
              return [
                one.job,
                shortly(one.slot),
                one.kind,
                askedBy(one.actor),
                one.state,
                one.attempt,
                took(one),
                counts.rows,
                counts.bytes === null ? null : bytes(counts.bytes),
                counts.batches,
                howItWent(one),
              ]
            }),
          ),
    )
  },
}

export const commands: Command[] = [list, run, history]

async function claim(ctx: Context, job: Job, again: boolean): Promise<{ run: Run; mine: boolean }> {
  const slot = job.schedule === null || again ? null : currentSlot(job.schedule, await planningTime(ctx))
  if (slot === null) return { run: await claimManually(ctx, job.name), mine: true }
  const { run: claimed, claimed: mine } = await claimSlot(ctx, { job: job.name, slot, kind: 'manual' })
  return { run: claimed, mine }
}

function describe(ended: Run, mine: boolean): string {
  const slot = minute(ended.slot)
  if (ended.state === 'failed') {
    const failed = `${ended.job} failed: ${ended.error?.detail ?? 'no reason was recorded'}`
    return mine ? failed : `${failed}\nThat was the slot ${slot}, which is not worked again; --again runs the job beside its schedule.`
  }
  if (ended.state !== 'done' && ended.state !== 'skipped')
    return `${ended.job} has not ended: it is ${ended.state} (slot ${slot}). The next worker goes on from where it is.`
  const took =
    ended.started_at === null || ended.finished_at === null
      ? ''
      : ` in ${duration(ended.finished_at.getTime() - ended.started_at.getTime())}`
  const done = mine
    ? `${ended.job} is ${ended.state}${took} (slot ${slot})`
    : `The slot ${slot} of ${ended.job} was worked before: it is ${ended.state}. Nothing was done again; --again runs it beside its schedule.`
  return ended.result === null ? done : `${done}\n${describeResult(ended.result)}`
}

/** A line for each task; what has no tasks as it was stored. */
function describeResult(result: Record<string, unknown>): string {
  const steps = stepsOf(result)
  if (steps.length === 0) return JSON.stringify(result, null, 2)
  return table(
    ['task', 'rows', 'batches', 'also'],
    steps.map(({ task, rows, batches, ...rest }) => [
      String(task),
      typeof rows === 'number' ? rows : null,
      typeof batches === 'number' ? batches : null,
      Object.entries(rest)
        .map(([name, value]) => `${name} ${typeof value === 'object' ? JSON.stringify(value) : String(value)}`)
        .join(', ') || null,
    ]),
  )
}

function stepsOf(result: Record<string, unknown> | null): Record<string, unknown>[] {
  return Array.isArray(result?.steps) ? (result.steps as Record<string, unknown>[]) : []
}

function took(one: Run): string | null {
  return one.started_at === null || one.finished_at === null ? null : duration(one.finished_at.getTime() - one.started_at.getTime())
}

/** What a run counted: itself, or in its steps. */
function countsOf({ result }: Run): { rows: number | null; bytes: number | null; batches: number | null } {
  const steps = stepsOf(result)
  const count = (...names: string[]) => {
    const own = names.map((name) => result?.[name]).find((value) => typeof value === 'number')
    if (own !== undefined) return own as number
    const counted = steps.flatMap((step) => names.map((name) => step[name])).filter((value) => typeof value === 'number')
    return counted.length === 0 ? null : counted.reduce((sum, value) => sum + value, 0)
  }
  return { rows: count('rows'), bytes: count('storedBytes', 'bytes'), batches: count('batches') }
}

/** "cli", "operator 3f0c…", "the schedule". */
function askedBy(actor: Actor): string {
  if (actor.type === 'system') return 'the schedule'
  return 'id' in actor ? `${actor.type} ${actor.id}` : actor.type
}

function howItWent(one: Run): string | null {
  if (one.error !== null) return one.error.detail
  const noted = [
    ...(one.overdue_at === null ? [] : ['began too late']),
    ...(one.overran_at === null ? [] : ['took too long']),
    ...(typeof one.result?.skipped === 'string' ? [one.result.skipped] : []),
  ]
  if (noted.length > 0) return noted.join(', ')
  return one.result === null ? null : brief(one.result)
}

function brief({ rows: _rows, bytes: _bytes, batches: _batches, ...rest }: Record<string, unknown>): string | null {
  const steps = stepsOf(rest)
  const text =
    steps.length === 0
      ? JSON.stringify(rest)
      : steps.map(({ task, rows }) => (typeof rows === 'number' && steps.length > 1 ? `${task}: ${rows}` : String(task))).join(', ')
  return text === '{}' ? null : text.length > 80 ? `${text.slice(0, 77)}…` : text
}

function minute(date: Date | null): string | null {
  return date === null ? null : `${date.toISOString().slice(0, 16).replace('T', ' ')} UTC`
}

/** Without the year and the zone: a column has little room. */
function shortly(date: Date | null): string | null {
  return date === null ? null : date.toISOString().slice(5, 16).replace('T', ' ')
}
