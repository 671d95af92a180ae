import type { Context } from '../../platform/context.ts'
import { databaseTime } from '../../platform/database-clock.ts'
import type { Transaction } from '../../platform/db.ts'
import { environmentOf } from '../../platform/environment.ts'
import { changesBy, type HealthChange, type HealthState, type Look, stateAfter } from './status.ts'
import { validityMs } from './validity.ts'

/** A clock that was set back: what is stored from further ahead than this cannot have been. */
const clockSlackMs = 60_000
/** A check that left the policy is forgotten after this. */
const forgottenAfterMs = 86_400_000

/**
 * Notes what was seen just now: a sample for each check, a change where one differs from before, and how things stand.
 * @returns the checks that changed, as they are now. Nothing of it where a later look is already stored.
 */
export async function recordLooks(ctx: Context, looks: readonly Look[]): Promise<HealthChange[]> {
  const environment = environmentOf(ctx)
  return inTurn(ctx, environment, async (tx) => {
    const at = await databaseTime(ctx, tx)
    const validUntil = new Date(at.getTime() + (await validityMs(ctx, at)))
    await forgetFuture(tx, environment, new Date(at.getTime() + clockSlackMs))
    const before = new Map((await readStates(tx, environment)).map((state) => [state.check, state]))
    await insertChanges(tx, environment, await forgetChecks(tx, environment, before, looks, at))
    return store(tx, environment, before, looks, { at, validUntil })
  })
}

/**
 * Notes what was so from `from` to `to`, at a time when it could not be noted. After that nothing is known until somebody
 * looks, so that nobody is told now of what is over. Of a check that somebody has looked at since nothing is noted.
 */
export async function recordPast(ctx: Context, looks: readonly Look[], { from, to }: { from: Date; to: Date }): Promise<void> {
  const environment = environmentOf(ctx)
  const over = looks.map((look): Look => ({ ...look, status: 'unknown', cause: null, durationMs: null }))
  await inTurn(ctx, environment, async (tx) => {
    for (const [seen, at] of [
      [looks, from],
      [over, to],
    ] as const) {
      const before = new Map((await readStates(tx, environment)).map((state) => [state.check, state]))
      await store(tx, environment, before, seen, { at, validUntil: to })
    }
  })
}

/** Two who write at once would both see the same state before theirs: one after the other, each sees what the other stored. */
function inTurn<T>(ctx: Context, environment: string, work: (tx: Transaction) => Promise<T>): Promise<T> {
  return ctx.db.transaction(async (tx) => {
    await tx.query(`select pg_advisory_xact_lock(hashtextextended('caretaker:health:' || $1::text, 0))`, [environment])
    return work(tx)
  })
}

async function store(
  tx: Transaction,
  environment: string,
  before: ReadonlyMap<string, HealthState>,
  looks: readonly Look[],
  { at, validUntil }: { at: Date; validUntil: Date },
): Promise<HealthChange[]> {
  const news = looks.filter(({ check }) => (before.get(check)?.lookedAt.getTime() ?? 0) < at.getTime())
  const changes = news.flatMap((look) => changesBy(before.get(look.check), look, at))
  await insertSamples(tx, environment, at, news)
  await insertChanges(tx, environment, changes)
  await storeStates(
    tx,
    environment,
    news.map((look) => stateAfter(before.get(look.check), look, at, validUntil)),
  )
  return changes.filter((change) => change.at.getTime() === at.getTime())
}

export function readStates(db: Pick<Transaction, 'query'>, environment: string): Promise<HealthState[]> {
  return db.query<HealthState & Record<string, unknown>>(
    `select check_name as "check", status, cause, since, looked_at as "lookedAt", valid_until as "validUntil", duration_ms as "durationMs"
     from caretaker.health_states where environment = $1::text`,
    [environment],
  )
}

/** What a clock that ran ahead has left: it would stand in the way of everything until that time has come. */
async function forgetFuture(tx: Transaction, environment: string, from: Date): Promise<void> {
  const states = await tx.execute('delete from caretaker.health_states where environment = $1::text and looked_at > $2::timestamptz', [
    environment,
    from,
  ])
  if (states === 0) return
  await tx.execute('delete from caretaker.health_changes where environment = $1::text and at > $2::timestamptz', [environment, from])
  await tx.execute('delete from caretaker.health_samples where environment = $1::text and at > $2::timestamptz', [environment, from])
  await tx.execute('delete from caretaker.health_days where environment = $1::text and rolled_at > $2::timestamptz', [environment, from])
}

/** A check that is no longer looked at: its history ends, as unknown. */
async function forgetChecks(
  tx: Transaction,
  environment: string,
  before: ReadonlyMap<string, HealthState>,
  looks: readonly Look[],
  at: Date,
): Promise<HealthChange[]> {
  const looked = new Set(looks.map(({ check }) => check))
  const gone = [...before.values()].filter(
    ({ check, lookedAt }) => !looked.has(check) && at.getTime() - lookedAt.getTime() > forgottenAfterMs,
  )
  if (gone.length === 0) return []
  await tx.execute('delete from caretaker.health_states where environment = $1::text and check_name = any ($2::text[])', [
    environment,
    gone.map(({ check }) => check),
  ])
  return gone
    .filter(({ status }) => status !== 'unknown')
    .map(({ check, validUntil }) => ({ check, at: validUntil, status: 'unknown', cause: null }))
}

async function insertSamples(tx: Transaction, environment: string, at: Date, looks: readonly Look[]): Promise<void> {
  await tx.execute(
    `insert into caretaker.health_samples (environment, check_name, at, status, cause, duration_ms)
     select $1::text, l."check", $2::timestamptz, l.status, l.cause, l."durationMs"
     from jsonb_to_recordset($3::jsonb) as l("check" text, status text, cause text, "durationMs" float8)
     on conflict do nothing`,
    [environment, at, JSON.stringify(looks)],
  )
}

async function insertChanges(tx: Transaction, environment: string, changes: readonly HealthChange[]): Promise<void> {
  if (changes.length === 0) return
  await tx.execute(
    `insert into caretaker.health_changes (environment, check_name, at, status, cause)
     select $1::text, c."check", c.at, c.status, c.cause
     from jsonb_to_recordset($2::jsonb) as c("check" text, at timestamptz, status text, cause text)
     on conflict (environment, check_name, at) do update set status = excluded.status, cause = excluded.cause`,
    [environment, JSON.stringify(changes)],
  )
}

async function storeStates(tx: Transaction, environment: string, states: readonly HealthState[]): Promise<void> {
  await tx.execute(
    `insert into caretaker.health_states (environment, check_name, status, cause, since, looked_at, valid_until, duration_ms)
     select $1::text, s."check", s.status, s.cause, s.since, s."lookedAt", s."validUntil", s."durationMs"
     from jsonb_to_recordset($2::jsonb) as s("check" text, status text, cause text, since timestamptz, "lookedAt" timestamptz,
       "validUntil" timestamptz, "durationMs" float8)
     on conflict (environment, check_name) do update set status = excluded.status, cause = excluded.cause, since = excluded.since,
       looked_at = excluded.looked_at, valid_until = excluded.valid_until, duration_ms = excluded.duration_ms`,
    [environment, JSON.stringify(states)],
  )
}
