import type { Context } from '../platform/context.ts'
import { environmentOf } from '../platform/environment.ts'
import { Batch, type Labels } from './batch.ts'
import { clockService, ownMetrics } from './own-metrics.ts'

/** An answer of Caretaker's own functions. */
export interface RecordedRequest {
  method: string
  /** A pattern, never a URL. */
  route: string
  status: number
  durationMs: number
  /** Nobody waits for it: a worker's invocation takes minutes. */
  byClock: boolean
}

export interface Recorder {
  /**
   * Counts a request in memory. Every few seconds what was counted goes to the database, through `waitUntil` and after the
   * answer. Takes microseconds and never throws.
   */
  record(request: RecordedRequest, waitUntil: (work: Promise<unknown>) => void): void
  /** Stores what is in memory. Never throws: what cannot be stored is tried again with the next. */
  flush(): Promise<void>
}

/** At most one flush in that time, ms. */
const flushEveryMs = 2_000
/** A database that is gone for longer than this many figures loses them: memory is for the requests. */
const mostFigures = 20_000
/** Promises to touch nothing: an instance that answers only this needs no database. */
const liveness = '/health/live'

/** What one process keeps between two flushes. `open` makes the context in which figures are stored. */
export function createRecorder(open: () => Context): Recorder {
  let batch = new Batch()
  let ctx: Context | undefined
  let flushing: Promise<void> | undefined
  let flushedAtMs = Number.NEGATIVE_INFINITY
  let timer: NodeJS.Timeout | undefined
  let cpu = 0
  /** The most requests that were seen waiting for a connection since the last flush. */
  let waiting = 0
  const known = new Map<string, string>()

  async function store(taken: Batch, to: Context): Promise<void> {
    try {
      // Loaded after the first answer: no cold start pays for it.
      const { storeBatch } = await import('./store-batch.ts')
      await storeBatch(to.db, environmentOf(to), taken, { now: to.clock.now(), known })
    } catch (error) {
      known.clear()
      // What came meanwhile is newer.
      const newer = batch
      batch = taken
      batch.mergeBatch(newer)
      if (batch.size > mostFigures) batch = new Batch()
      to.log.debug({ err: error }, 'metrics not stored yet')
    }
  }

  function flush(): Promise<void> {
    if (timer !== undefined) clearTimeout(timer)
    timer = undefined
    // What is on its way was taken before: what came since goes after it.
    if (flushing !== undefined) return flushing.then(flush)
    if (batch.empty || ctx === undefined) return Promise.resolve()
    const to = ctx
    recordProcess(batch, to, { cpu, waiting })
    cpu = cpuSeconds()
    waiting = 0
    const taken = batch
    batch = new Batch()
    flushedAtMs = to.clock.monotonicMs()
    flushing = store(taken, to).finally(() => {
      flushing = undefined
    })
    return flushing
  }

  return {
    flush,
    record({ method, route, status, durationMs, byClock }, waitUntil) {
      try {
        ctx ??= open()
        const now = ctx.clock.now()
        const labels = { service: byClock ? clockService : 'caretaker', method, route, status: String(status) }
        add(batch, 'http_requests_total', labels, 1, now)
        add(batch, 'http_request_duration_seconds', labels, durationMs / 1_000, now)
        waiting = Math.max(waiting, ctx.db.waiting?.() ?? 0)
        if (route === liveness) return
        const dueInMs = flushedAtMs + flushEveryMs - ctx.clock.monotonicMs()
        if (dueInMs <= 0 && flushing === undefined) waitUntil(flush())
        // Held by nothing: where the instance is frozen meanwhile, the next request stores it.
        else timer ??= setTimeout(() => void flush(), Math.max(dueInMs, 100)).unref()
      } catch {
        // A figure is not worth an answer.
      }
    },
  }
}

const own: Labels = { service: 'caretaker' }

function recordProcess(batch: Batch, ctx: Context, since: { cpu: number; waiting: number }): void {
  const now = ctx.clock.now()
  add(batch, 'process_resident_memory_bytes', own, process.memoryUsage.rss(), now)
  add(batch, 'process_cpu_seconds_total', own, Math.max(0, cpuSeconds() - since.cpu), now)
  if (ctx.db.waiting !== undefined) add(batch, 'database_pool_waiting_count', own, since.waiting, now)
}

function cpuSeconds(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1_000_000
}

function add(batch: Batch, name: string, labels: Labels, value: number, at: Date): void {
  const known = ownMetrics[name]
  if (known === undefined) return
  batch.add({ name, labels, source: 'caretaker', ...known }, value, at)
}
