import type { Context } from '../platform/context.ts'
import type { Queryable } from '../platform/db.ts'
import type { IDatabase, PgBoss } from './pg-boss.ts'

export const queueName = 'caretaker'
export const retryLimit = 3

const queueOptions = {
  retryLimit,
  retryDelay: 5,
  retryBackoff: true,
  retryDelayMax: 300,
  /** A worker that has not been heard of for so long is dead; pg-boss gives its job to another. */
  heartbeatSeconds: 10,
  expireInSeconds: 23 * 3600,
  deleteAfterSeconds: 7 * 86_400,
}

export interface Queue {
  boss: PgBoss
  /** As the queue in the database has it: workers of several deployments must agree on who is dead. */
  heartbeatSeconds: number
}

/**
 * pg-boss as an engine without timers: a function has no life between invocations, so every poll, heartbeat and
 * supervision is called from a tick or a worker. It runs over the context's own pool.
 */
export async function openQueue(ctx: Context): Promise<Queue> {
  const { PgBoss } = await import('pg-boss')
  const boss = new PgBoss({
    db: bossDatabase(ctx.db),
    schema: 'pgboss',
    supervise: false,
    schedule: false,
    monitorIntervalSeconds: 1,
    reindex: false,
    monitorVacuum: false,
  })
  boss.on('error', (error) => ctx.log.error({ err: error }, 'queue error'))
  const found = await heartbeatOf(ctx)
  if (found !== null) {
    await forgetBusy(ctx)
    await boss.start()
    return { boss, heartbeatSeconds: found }
  }
  await install(ctx, boss)
  return { boss, heartbeatSeconds: (await heartbeatOf(ctx)) ?? queueOptions.heartbeatSeconds }
}

/** Null while the queue is not there. */
async function heartbeatOf(ctx: Context): Promise<number | null> {
  const [table] = await ctx.db.query<{ present: boolean }>(`select to_regclass('pgboss.queue') is not null as present`)
  if (table?.present !== true) return null
  const [queue] = await ctx.db.query<{ seconds: number | null }>(
    // An older schema of pg-boss, which its start brings up to date, has no such column.
    `select (to_jsonb(q)->>'heartbeat_seconds')::int as seconds from pgboss.queue q where name = $1`,
    [queueName],
  )
  return queue === undefined ? null : (queue.seconds ?? queueOptions.heartbeatSeconds)
}

/**
 * Lets the queue do its rounds: jobs of dead workers go back, old ones go. Which jobs were busy at that moment it notes as
 * well, and a worker that starts later would not fetch these until its own next round, a minute on; the group concurrency
 * of each fetch says better who is busy.
 */
export async function superviseQueue(ctx: Context, boss: PgBoss): Promise<void> {
  await boss.supervise(queueName)
  await forgetBusy(ctx)
}

async function forgetBusy(ctx: Context): Promise<void> {
  await ctx.db.execute('update pgboss.queue set singletons_active = null where name = $1 and singletons_active is not null', [queueName])
}

/** pg-boss's schema and the one queue; a lock keeps two first workers from making them at the same time. */
async function install(ctx: Context, boss: PgBoss): Promise<void> {
  await ctx.db.transaction(async (tx) => {
    await tx.query(`select pg_advisory_xact_lock(hashtextextended('caretaker:queue', 0))`)
    await boss.start()
    // The singleton policy lets one run of a job be active at a time: the singleton key is the job's name.
    if ((await boss.getQueue(queueName)) === null) await boss.createQueue(queueName, { policy: 'singleton', ...queueOptions })
  })
}

/** pg-boss's statements over one of our connections, so that its state and ours change in one transaction. */
export function bossDatabase(db: Queryable): IDatabase {
  return { executeSql: async (text, values) => ({ rows: (await db.query(text, values)) ?? [] }) }
}
