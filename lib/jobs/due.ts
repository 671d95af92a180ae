import type { Context } from '../platform/context.ts'
import type { Transaction } from '../platform/db.ts'
import { emitEvent } from '../platform/outbox.ts'
import type { RunKind } from './ledger.ts'
import type { JobSchedule } from './slots.ts'
import { deploymentName } from './time.ts'

/** What becomes of a slot that is due. */
export interface Verdict {
  slot: Date
  kind: RunKind
  state: 'queued' | 'skipped'
}

/**
 * What the policy says of slots that nobody has claimed yet, the newest of all that are due among them. On time is who
 * starts within the start grace; of what comes later, or together with a newer one, `missed` decides.
 */
export function judge(schedule: JobSchedule, due: readonly Date[], newest: Date, now: Date): Verdict[] {
  return due.map((slot) => {
    const late = now.getTime() - slot.getTime() > schedule.startGraceMs
    const runs = schedule.missed === 'all' || (schedule.missed === 'last' ? slot >= newest : !late)
    return { slot, kind: late ? 'caught-up' : 'planned', state: runs ? 'queued' : 'skipped' }
  })
}

/**
 * Claims slots, or notes that they are skipped, unless somebody has claimed them before. One event tells of all that did
 * not run in time.
 * @returns those of them that nobody had claimed
 */
export async function claimVerdicts(
  tx: Transaction,
  ctx: Context,
  job: { name: string; schedule: JobSchedule },
  verdicts: readonly Verdict[],
): Promise<Verdict[]> {
  if (verdicts.length === 0) return []
  const rows = await tx.query<{ slot: Date }>(
    `insert into caretaker.runs (job, slot, kind, state, actor, deployment, finished_at, result)
     select $1, slot, kind, state, $5::jsonb, $6, case when state = 'skipped' then clock_timestamp() end,
       case when state = 'skipped' then '{"skipped":"missed"}'::jsonb end
     from unnest($2::timestamptz[], $3::text[], $4::text[]) as due(slot, kind, state)
     on conflict (job, slot) do nothing returning slot`,
    [
      job.name,
      verdicts.map(({ slot }) => slot),
      verdicts.map(({ kind }) => kind),
      verdicts.map(({ state }) => state),
      JSON.stringify({ type: 'system', job: 'tick' }),
      deploymentName(ctx),
    ],
  )
  const inserted = new Set(rows.map(({ slot }) => slot.getTime()))
  const mine = verdicts.filter(({ slot }) => inserted.has(slot.getTime()))
  await tellMissed(
    tx,
    job.name,
    job.schedule,
    mine.filter(({ kind, state }) => kind === 'caught-up' || state === 'skipped'),
  )
  return mine
}

/** One event for slots of a job that did not run, or not in time; oldest first. */
export async function tellMissed(
  tx: Transaction,
  job: string,
  schedule: Pick<JobSchedule, 'missed'>,
  slots: readonly { slot: Date; state: string }[],
): Promise<void> {
  const [first] = slots
  if (first === undefined) return
  await emitEvent(tx, 'job.missed', {
    job,
    slots: slots.length,
    first: first.slot,
    last: slots.at(-1)?.slot,
    /** How many of them run after all. */
    caughtUp: slots.filter(({ state }) => state === 'queued').length,
    policy: schedule.missed,
  })
}
