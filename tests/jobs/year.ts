import { expect } from 'vitest'
import type { Schedule } from '../../lib/config/index.ts'
import { fire, type Job, type TickReport, tick, work } from '../../lib/jobs/index.ts'
import { fixedClock } from '../../lib/platform/clock.ts'
import type { Context } from '../../lib/platform/context.ts'
import type { Database } from '../../lib/platform/db.ts'
import { CaretakerError } from '../../lib/platform/errors.ts'
import { testContext } from '../support/context.ts'
import { eventsOf, hurriedQueue, jobOf } from './jobs.ts'
import { oracleSlots } from './slot-oracle.ts'

const minuteMs = 60_000
const hourMs = 60 * minuteMs
const dayMs = 24 * hourMs

export interface Year {
  from: string
  until: string
  seed: number
  /** Workers that die in the middle of a run, as if the machine had lost its power. */
  crashes: number
}

type Planned = Exclude<Schedule, string> & { timezone: string }

const schedules: Record<string, Planned> = {
  'new-york': { cron: '30 2 * * *', timezone: 'America/New_York', missed: 'last' },
  havana: { cron: '0 0 * * *', timezone: 'America/Havana', missed: 'all' },
  berlin: { cron: '*/30 2 * * 0,3,6', timezone: 'Europe/Berlin', missed: 'last' },
  casablanca: { cron: '15 2,3 * * 0-2', timezone: 'Africa/Casablanca', missed: 'all' },
  'lord-howe': { cron: '45 1-2 * * 0,6', timezone: 'Australia/Lord_Howe', missed: 'skip' },
  kolkata: { cron: '5 4 * * 1-5', timezone: 'Asia/Kolkata', missed: 'skip' },
  'month-end': { cron: '0 23 L * *', timezone: 'Pacific/Chatham', missed: 'all' },
}

interface Happening {
  at: number
  /** Which host; the worker is nobody's. */
  host: number
  what: 'tick' | 'work' | string
}

/**
 * A year on two hosts with one database: every job is fired by both, and either firing may be early, late, double or lost;
 * ticks get lost too; both hosts stand still for days; functions die at any statement; workers die in the middle of a run;
 * runs fail. What is in the tables then is held against every slot that the year had.
 */
export async function liveThrough(db: Database, year: Year): Promise<{ slots: number; done: number; failed: number; skipped: number }> {
  const random = generator(year.seed)
  const clock = fixedClock(year.from)
  const until = Date.parse(year.until)
  await db.execute('truncate caretaker.runs, caretaker.watched_jobs, caretaker.outbox')
  await hurriedQueue(testContext(db))
  await db.execute('drop table if exists effects; create table effects (job text, slot timestamptz, run uuid)')

  const skippedAt: { job: string; slot: Date; now: Date }[] = []
  const jobs: Job[] = Object.entries(schedules).map(([name, schedule]) =>
    jobOf(name, schedule, {
      async run(ctx, run) {
        await ctx.db.transaction(async (tx) => {
          if (run.checkpoint !== null) return
          await tx.execute('insert into effects (job, slot, run) values ($1, $2::timestamptz, $3::uuid)', [run.job, run.slot, run.id])
          await run.save('effect', tx)
        })
        if (fails(run.id)) throw new CaretakerError('policy_invalid', 'for good')
        return random() < 0.05 && run.attempt === 1 ? { status: 'hand-over' } : { status: 'done', result: {} }
      },
    }),
  )
  const host = (name: string, database = db): Context => {
    const ctx = testContext(database, { clock })
    return { ...ctx, env: { ...ctx.env, CARETAKER_DEPLOYMENT: name } }
  }
  const note = (report: TickReport) => {
    expect(report.troubled).toEqual([])
    for (const { job, slot } of report.skipped) skippedAt.push({ job, slot, now: clock.now() })
  }
  const begin = clock.now()
  for (const name of ['site-1', 'prj_1']) note(await tick(host(name), jobs))

  // The queue lets seconds pass before it tries a dead worker's run again.
  const hurry = setInterval(() => {
    void db.execute(`update pgboss.job set start_after = now() where state = 'retry'`).catch(() => undefined)
  }, 200)
  try {
    await live(db, { ...year, random, clock, jobs, host, note, begin, until })
  } finally {
    clearInterval(hurry)
  }
  clock.advance(Math.max(0, until - clock.now().getTime()))
  for (const name of ['site-1', 'prj_1', 'site-1']) note(await tick(host(name), jobs))
  await settle(db, jobs)
  return hold(db, { begin, until: new Date(until), skippedAt })
}

interface Living extends Omit<Year, 'until'> {
  random: () => number
  clock: ReturnType<typeof fixedClock>
  jobs: readonly Job[]
  host: (name: string, database?: Database) => Context
  note: (report: TickReport) => void
  begin: Date
  until: number
}

async function live(db: Database, { random, clock, jobs, host, note, begin, until, crashes: wanted }: Living): Promise<void> {
  let crashes = 0
  for (const { at, host: index, what } of happenings(random, begin, until)) {
    clock.advance(Math.max(0, at - clock.now().getTime()))
    if (what === 'work') {
      // A worker comes about twice a day.
      if (crashes < wanted && random() < (2 * wanted * 12 * hourMs) / (until - begin.getTime())) {
        if (await dieAtWork(db, jobs)) crashes++
      } else await work(testContext(db), jobs)
      continue
    }
    // One call in ten dies at a statement of its own.
    const dying = random() < 0.1
    const ctx = host(['site-1', 'prj_1'][index] as string, dying ? cutOff(db, 1 + Math.floor(random() * 30)) : db)
    const call = what === 'tick' ? tick(ctx, jobs).then(note) : fire(ctx, jobs.find(({ name }) => name === what) as Job)
    await call.catch((error: unknown) => {
      if (!dying) throw error
    })
  }
}

/** What calls when: nobody calls while everything stands still. */
function happenings(random: () => number, begin: Date, until: number): Happening[] {
  const all: Happening[] = []
  for (const [job, schedule] of Object.entries(schedules))
    for (const slot of oracleSlots(schedule, begin, new Date(until)))
      for (const host of [0, 1]) {
        const lost = random() < 0.1
        const late = random() < 0.15 ? random() * 40 * minuteMs : random() * 20_000
        const early = random() < 0.05 ? -25_000 * random() : 0
        const at = slot.getTime() + (early === 0 ? late : early)
        if (!lost) all.push({ at, host, what: job })
        if (!lost && random() < 0.1) all.push({ at: at + random() * hourMs, host, what: job })
        // The minute's ticks matter around the slots; the others find nothing, and are a few a day here.
        if (random() < 0.3) all.push({ at: slot.getTime() + random() * 2 * minuteMs, host, what: 'tick' })
      }
  for (let at = begin.getTime(); at < until; at += 12 * hourMs) {
    all.push({ at: at + random() * hourMs, host: random() < 0.5 ? 0 : 1, what: 'tick' })
    if (random() < 0.8) all.push({ at: at + random() * 12 * hourMs, host: 0, what: 'work' })
  }
  const days = (until - begin.getTime()) / dayMs
  const standstills = Array.from({ length: Math.ceil(days / 40) }, () => {
    const start = begin.getTime() + random() * (until - begin.getTime())
    return { start, end: start + random() * 3 * dayMs }
  })
  return all
    .filter(({ at }) => at > begin.getTime() && at <= until && !standstills.some(({ start, end }) => at >= start && at < end))
    .sort((a, b) => a.at - b.at)
}

/** A database that is gone after so many statements, for good: in the middle of a transaction that transaction is rolled back. */
function cutOff(db: Database, statements: number): Database {
  let left = statements
  const count = () => {
    if (--left < 0) throw new CaretakerError('database_unavailable', 'cut off')
  }
  const queryable = (on: Pick<Database, 'query' | 'execute'>) => ({
    query: async (sql: string, params?: readonly unknown[]) => {
      count()
      return on.query(sql, params)
    },
    execute: async (sql: string, params?: readonly unknown[]) => {
      count()
      return on.execute(sql, params)
    },
  })
  return {
    ...db,
    ...queryable(db),
    transaction: (inner, options) =>
      db.transaction(async (tx) => {
        const result = await inner({ kind: 'transaction', ...queryable(tx) } as typeof tx)
        count()
        return result
      }, options),
  } as Database
}

/** A worker takes whatever is first, and is never heard of again; the queue and the ledger are told that this was long ago. */
async function dieAtWork(db: Database, jobs: readonly Job[]): Promise<boolean> {
  let dead = false
  let taken = false
  const lost = () => Promise.reject(new CaretakerError('database_unavailable', 'cut off'))
  const mortal = {
    ...db,
    query: (sql: string, params?: readonly unknown[]) => (dead ? lost() : db.query(sql, params)),
    execute: (sql: string, params?: readonly unknown[]) => (dead ? lost() : db.execute(sql, params)),
    transaction: (inner, options) => (dead ? lost() : db.transaction(inner, options)),
  } as Database
  const dying = jobs.map(
    (job): Job => ({
      ...job,
      run: async (ctx, run) => {
        taken = true
        // Sometimes before its effect, sometimes after it.
        if (run.slot.getTime() % (2 * minuteMs) === 0) await job.run(ctx, run).catch(() => undefined)
        dead = true
        throw new Error('dead')
      },
    }),
  )
  await work(testContext(mortal), dying).catch(() => undefined)
  if (taken) {
    await db.execute(`update caretaker.runs set heartbeat_at = now() - interval '1 minute' where state = 'running'`)
    await db.execute(
      `update pgboss.job set heartbeat_on = now() - interval '1 minute', started_on = now() - interval '1 minute' where state = 'active'`,
    )
  }
  return taken
}

async function settle(db: Database, jobs: readonly Job[]): Promise<void> {
  for (let round = 0; round < 20; round++) {
    await work(testContext(db), jobs)
    const open = await db.query(`select from caretaker.runs where state in ('queued', 'dispatched', 'running')`)
    if (open.length === 0) return
  }
  throw new Error('runs stay open')
}

interface Lived {
  begin: Date
  until: Date
  skippedAt: readonly { job: string; slot: Date; now: Date }[]
}

async function hold(db: Database, { begin, until, skippedAt }: Lived) {
  const runs = await db.query<{ id: string; job: string; slot: Date; kind: string; state: string; error: unknown }>(
    'select id::text as id, job, slot, kind, state, error from caretaker.runs order by job, slot',
  )
  const effects = await db.query<{ job: string; slot: Date; run: string }>('select job, slot, run::text as run from effects')
  for (const [job, schedule] of Object.entries(schedules)) {
    const own = runs.filter((run) => run.job === job)
    // Every slot of the year is there, once, and nothing else.
    expect([job, own.map(({ slot }) => slot.toISOString())]).toEqual([
      job,
      oracleSlots(schedule, begin, until).map((slot) => slot.toISOString()),
    ])
    expect([job, own.filter(({ state }) => !['done', 'failed', 'skipped'].includes(state))]).toEqual([job, []])
    if (schedule.missed === 'all') expect([job, own.filter(({ state }) => state === 'skipped')]).toEqual([job, []])
  }
  const failing = ran(runs)
    .filter(({ id }) => fails(id))
    .map(({ id }) => id)
  // What is done has had its effect once; what is skipped, never.
  expect(effects.map(({ run }) => run).sort()).toEqual(
    ran(runs)
      .map(({ id }) => id)
      .sort(),
  )
  expect(
    runs
      .filter(({ state }) => state === 'failed')
      .map(({ id }) => id)
      .sort(),
  ).toEqual([...failing].sort())
  // Nobody skips what may still start in time, nor the last one where the last one is to run.
  for (const { job, slot, now } of skippedAt) {
    const schedule = schedules[job] as Planned
    const newer = oracleSlots(schedule, slot, now).length > 0
    expect([job, slot.toISOString(), schedule.missed === 'skip' ? now.getTime() - slot.getTime() > 5 * minuteMs : newer]).toEqual([
      job,
      slot.toISOString(),
      true,
    ])
  }
  // Nothing silently: each failure has its event, and each slot that did not run in time is counted in one.
  const events = await eventsOf(db)
  const failed = events.filter(({ topic }) => topic === 'job.failed').map(({ payload }) => String(payload.run))
  expect(failed.sort()).toEqual([...failing].sort())
  for (const job of Object.keys(schedules)) {
    const told = events.filter(({ topic, payload }) => topic === 'job.missed' && payload.job === job)
    const missed = runs.filter((run) => run.job === job && (run.kind === 'caught-up' || run.state === 'skipped'))
    expect([job, told.reduce((sum, { payload }) => sum + Number(payload.slots), 0)]).toEqual([job, missed.length])
  }
  const count = (state: string) => runs.filter((run) => run.state === state).length
  return { slots: runs.length, done: count('done'), failed: count('failed'), skipped: count('skipped') }
}

const ran = <T extends { state: string }>(runs: readonly T[]) => runs.filter(({ state }) => state !== 'skipped')

/** One run in twenty, whoever works at it. */
const fails = (run: string) => Number.parseInt(run.slice(0, 2), 16) < 13

/** Numbers from 0 to 1, the same for the same seed. */
function generator(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}
