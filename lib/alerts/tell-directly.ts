import { type Context, remainingMs } from '../platform/context.ts'
import type { Database } from '../platform/db.ts'
import { environmentOf } from '../platform/environment.ts'
import type { Channel, Message } from './channels/channel.ts'
import { channelNames } from './channels/names.ts'
import { openChannel } from './channels/open-channel.ts'
import { severityAt } from './default-severity.ts'
import { severityMatrix } from './incidents/severities.ts'
import { watcherKey } from './links.ts'
import type { NotificationPayload } from './types.ts'

/** People are told at most so often that the database cannot be reached, seconds. */
const quietSeconds = 15 * 60

/** What an instance remembers, because there is no database to remember it. */
interface Memory {
  /** Since when it has not reached the database. */
  since: Date
  /** When it last told people; null where another instance has. */
  toldAtMs: number | null
}

// It lives and dies with the pool of the instance: losing it costs one message too many.
const memories = new WeakMap<Database, Memory>()

/**
 * Tells every channel that the database cannot be reached, without it: no incident, no outbox, and nothing is noted. At most every
 * quarter of an hour for each instance, and for all of them together where the limiter does not need the database either.
 * @returns the channels that took it
 */
export async function tellWithoutDatabase(ctx: Context, cause: string): Promise<string[]> {
  const now = ctx.clock.monotonicMs()
  const memory: Memory = memories.get(ctx.db) ?? { since: ctx.clock.now(), toldAtMs: null }
  memories.set(ctx.db, memory)
  if (memory.toldAtMs !== null && now - memory.toldAtMs < quietSeconds * 1_000) return []
  const others = await heardElsewhere(ctx)
  memory.toldAtMs = now
  if (others) return []
  ctx.log.error({ cause }, 'the database cannot be reached; people are told without it')
  const taken = await tellAll(ctx, 'opened', {
    number: 0,
    title: 'database: cannot be reached',
    component: 'database',
    summary: 'Caretaker cannot reach the database: nothing is checked, no job runs, and no incident can be opened until it can.',
    cause,
    since: memory.since.toISOString(),
    affected: [],
  })
  // Nobody has heard it: the next tick tries again.
  if (taken.length === 0) memory.toldAtMs = null
  return taken
}

/**
 * Says, where this instance had told that the database cannot be reached, that it can be again.
 * @returns the channels that took it
 */
export async function tellWatchingAgain(ctx: Context): Promise<string[]> {
  const memory = memories.get(ctx.db)
  if (memory === undefined) return []
  memories.delete(ctx.db)
  if (memory.toldAtMs === null) return []
  return tellAll(ctx, 'watching', {
    number: 0,
    title: 'Watching again: the database can be reached',
    component: 'database',
    since: memory.since.toISOString(),
    until: ctx.clock.now().toISOString(),
    affected: [],
  })
}

/** Whether another instance has told people in this time. Without Redis the limiter needs the database, and nobody can say. */
async function heardElsewhere(ctx: Context): Promise<boolean> {
  if (ctx.env.UPSTASH_REDIS_REST_URL === undefined) return false
  try {
    return !(await ctx.limiter.hit(`alerts:${watcherKey(ctx)}`, 1, quietSeconds)).allowed
  } catch {
    return false
  }
}

async function tellAll(ctx: Context, kind: 'opened' | 'watching', payload: NotificationPayload): Promise<string[]> {
  const severity = severityAt(ctx.config, 0)
  const environment = environmentOf(ctx)
  const message: Message = {
    id: `watcher-${ctx.clock.now().getTime()}`,
    dedupKey: watcherKey(ctx),
    kind,
    severity,
    rank: 0,
    of: severityMatrix(ctx.config).length,
    payload,
    link: null,
    app: ctx.config.app.name,
    environment,
    at: ctx.clock.now(),
    unheard: false,
    reached: [],
    direct: true,
  }
  const taken = await Promise.all(
    channelNames(ctx).map(async (name) => {
      if (remainingMs(ctx) === 0) return []
      try {
        const channel: Channel = await openChannel(ctx, name)
        const outcome = await channel.send(ctx, message)
        if (outcome.state === 'delivered') return [name]
        ctx.log.error({ channel: name, code: outcome.code }, 'a channel did not take it that the database cannot be reached')
      } catch (error) {
        ctx.log.error({ err: error, channel: name }, 'a channel cannot be told that the database cannot be reached')
      }
      return []
    }),
  )
  return taken.flat()
}
