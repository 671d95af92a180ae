import type { Actor } from '../platform/actor.ts'
import { appendAudit } from '../platform/audit.ts'
import type { Context } from '../platform/context.ts'
import type { Queryable, Row } from '../platform/db.ts'
import { CaretakerError, sqlState } from '../platform/errors.ts'
import { deploymentName } from './time.ts'

export const runStates = ['queued', 'dispatched', 'running', 'done', 'failed', 'skipped'] as const
export type RunState = (typeof runStates)[number]
export type RunKind = 'planned' | 'caught-up' | 'manual'

/** A row of `caretaker.runs`. */
export interface Run extends Row {
  id: string
  job: string
  slot: Date
  kind: RunKind
  state: RunState
  /** Who asked for it. */
  actor: Actor
  /** Whose policy it stands for, where several deployments work on one database. */
  deployment: string
  /** Takings so far, hand-overs included. */
  attempt: number
  dispatch: number
  params: Record<string, unknown>
  checkpoint: unknown
  result: Record<string, unknown> | null
  error: { code: string; detail: string } | null
  queued_at: Date
  /** Hand-overs in a row that got nothing done. */
  fruitless: number
  /** When it was found waiting past its start grace, or at work past its run grace; null while it was not. */
  overdue_at: Date | null
  overran_at: Date | null
  started_at: Date | null
  finished_at: Date | null
}

export const runColumns = `id, job, slot, kind, state, actor, deployment, attempt, dispatch, params, checkpoint, result, error, queued_at,
  fruitless, overdue_at, overran_at, started_at, finished_at`

export interface Claim {
  run: Run
  /** False when the slot had been claimed before: `run` is that run. */
  claimed: boolean
}

/**
 * Claims a slot of a job. Two hosts firing at once both come here; the unique (job, slot) lets one through and shows
 * the other what the first is doing.
 */
export async function claimSlot(
  ctx: Context,
  claim: { job: string; slot: Date; kind: RunKind; params?: Record<string, unknown> },
): Promise<Claim> {
  return ledger(async () => {
    const [made] = await ctx.db.query<Run>(
      `insert into caretaker.runs (job, slot, kind, params, actor, deployment)
       values ($1, $2::timestamptz, $3, $4::jsonb, $5::jsonb, $6) on conflict (job, slot) do nothing returning ${runColumns}`,
      [claim.job, claim.slot, claim.kind, JSON.stringify(claim.params ?? {}), JSON.stringify(ctx.actor), deploymentName(ctx)],
    )
    if (made !== undefined) return { run: made, claimed: true }
    const existing = await findSlot(ctx.db, claim.job, claim.slot)
    if (existing === null)
      throw new CaretakerError(
        'conflict',
        `The slot ${claim.slot.toISOString()} of ${claim.job} was claimed and removed at the same time; try again.`,
      )
    return { run: existing, claimed: false }
  })
}

/** A run outside the schedule, asked for by a person: audited. Its slot is this very moment. */
export async function claimManually(ctx: Context, job: string, params: Record<string, unknown> = {}): Promise<Run> {
  return ledger(() =>
    ctx.db.transaction(async (tx) => {
      const [run] = await tx.query<Run>(
        `insert into caretaker.runs (job, slot, kind, params, actor, deployment)
         values ($1, clock_timestamp(), 'manual', $2::jsonb, $3::jsonb, $4) returning ${runColumns}`,
        [job, JSON.stringify(params), JSON.stringify(ctx.actor), deploymentName(ctx)],
      )
      await appendAudit(tx, ctx, { action: 'job.requested', target: job })
      return run as Run
    }),
  )
}

/**
 * A run of a job that works off what is waiting, unless one is already queued. One that is running does not count: it
 * may have looked at the queue for the last time just before the new work came.
 */
export async function claimIfIdle(ctx: Context, job: string): Promise<boolean> {
  const inserted = await ctx.db.execute(
    `insert into caretaker.runs (job, slot, kind, actor, deployment)
     select $1, clock_timestamp(), 'planned', $2::jsonb, $3
     where not exists (select from caretaker.runs where job = $1 and state in ('queued', 'dispatched'))
     on conflict (job, slot) do nothing`,
    [job, JSON.stringify(ctx.actor), deploymentName(ctx)],
  )
  return inserted > 0
}

export async function findSlot(db: Queryable, job: string, slot: Date): Promise<Run | null> {
  const [run] = await db.query<Run>(`select ${runColumns} from caretaker.runs where job = $1 and slot = $2::timestamptz`, [job, slot])
  return run ?? null
}

export async function findRun(db: Queryable, id: string): Promise<Run | null> {
  const [run] = await db.query<Run>(`select ${runColumns} from caretaker.runs where id = $1::uuid`, [id])
  return run ?? null
}

/** When each of these jobs ran last, or is at it. */
export async function lastRuns(ctx: Context, jobs: readonly string[]): Promise<Map<string, Pick<Run, 'state' | 'slot'>>> {
  const rows = await ledger(() =>
    // One look into the index for each job, however long the history is.
    ctx.db.query<Pick<Run, 'job' | 'state' | 'slot'>>(
      `select last.job, last.state, last.slot from unnest($1::text[]) as wanted(job)
       cross join lateral (select r.job, r.state, r.slot from caretaker.runs r where r.job = wanted.job order by r.slot desc limit 1) last`,
      [jobs],
    ),
  )
  return new Map(rows.map((row) => [row.job, row]))
}

/** When a run of each of these jobs last ended well. */
export async function lastDone(ctx: Context, jobs: readonly string[]): Promise<Map<string, Date>> {
  const rows = await ledger(() =>
    ctx.db.query<{ job: string; at: Date }>(
      `select job, max(finished_at) as at from caretaker.runs where job = any($1::text[]) and state = 'done' group by job`,
      [jobs],
    ),
  )
  return new Map(rows.map(({ job, at }) => [job, at]))
}

/** The newest runs first; with `before`, the id of a run, those that come after it in that order. */
export async function listRuns(ctx: Context, filter: { job?: string; state?: RunState; before?: string; limit: number }): Promise<Run[]> {
  return ledger(() =>
    ctx.db.query<Run>(
      `select ${runColumns} from caretaker.runs where ($1::text is null or job = $1) and ($2::text is null or state = $2)
         and ($4::uuid is null or (queued_at, slot, id) < (select b.queued_at, b.slot, b.id from caretaker.runs b where b.id = $4::uuid))
       order by queued_at desc, slot desc, id desc limit $3::int`,
      [filter.job ?? null, filter.state ?? null, filter.limit, filter.before ?? null],
    ),
  )
}

/** Says in words that the database has not been prepared, instead of "relation does not exist". */
export async function ledger<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (sqlState(error) === '42P01' || sqlState(error) === '3F000')
      throw new CaretakerError('not_configured', 'This database has no Caretaker tables yet. Run `caretaker db migrate` on it first.', {
        cause: error,
      })
    throw error
  }
}
