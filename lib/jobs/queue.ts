import type { Context } from '../platform/context.ts'
import type { Queryable } from '../platform/db.ts'
import type { IDatabase, PgBoss } from './pg-boss.ts'

export const queueName = 'caretaker'
/** A worker that has not been heard of for so long is dead; pg-boss gives its job to another. */
export const heartbeatSeconds = 10
export const retryLimit = 3

const queueOptions = {
  retryLimit,
  retryDelay: 5,
  retryBackoff: true,
  retryDelayMax: 300,
  heartbeatSeconds,
  expireInSeconds: 23 * 3600,
  deleteAfterSeconds: 7 * 86_400,
}

/**
 * pg-boss as an engine without timers: a function has no life between invocations, so every poll, heartbeat and
 * supervision is called from a tick or a worker. It runs over the context's own pool.
 */
export async function openQueue(ctx: Context): Promise<PgBoss> {
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
  if (await installed(ctx)) await boss.start()
  else await install(ctx, boss)
  return boss
}

async function installed(ctx: Context): Promise<boolean> {
  const [table] = await ctx.db.query<{ present: boolean }>(`select to_regclass('pgboss.queue') is not null as present`)
  if (table?.present !== true) return false
  const [queue] = await ctx.db.query('select from pgboss.queue where name = $1', [queueName])
  return queue !== undefined
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
