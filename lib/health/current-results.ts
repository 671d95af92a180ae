import { setTimeout as delay } from 'node:timers/promises'
import type { Context } from '../platform/context.ts'
import type { Database, Row } from '../platform/db.ts'
import { type Check, snapshotScope } from './check.ts'
import { claimSnapshots, type Snapshot, storeSnapshots } from './queries.ts'
import { type CheckResult, runCheck } from './run-check.ts'

const defaultMaxAgeSeconds = 10
// What may be lost when the database hangs before the checks run without it.
const snapshotLimitMs = 1_000
const pollMs = 50

/**
 * One result for each check, none older than `health.maxAgeSeconds` unless another instance is renewing it this moment.
 * However many ask, in however many instances, a dependency is looked at once in that time: the first caller takes the
 * lease on the shared snapshot and runs the check, the others wait for it or are given what was there a moment ago.
 * Where the database cannot be asked, each instance keeps that promise for itself.
 */
export async function currentResults(ctx: Context, checks: readonly Check[]): Promise<CheckResult[]> {
  const instance = instanceOf(ctx.db)
  const maxAgeMs = (ctx.config.health?.maxAgeSeconds ?? defaultMaxAgeSeconds) * 1_000
  const now = ctx.clock.monotonicMs()
  const pending = new Map<string, Promise<Kept>>()
  const missing = new Map<string, Check>()
  for (const check of checks) {
    const scope = snapshotScope(check, ctx.env)
    const kept = instance.kept.get(scope)
    const running = instance.running.get(scope)
    if (kept !== undefined && now - kept.madeAtMs < maxAgeMs && now >= kept.madeAtMs) pending.set(scope, Promise.resolve(kept))
    else if (running !== undefined) pending.set(scope, running)
    else missing.set(scope, check)
  }
  if (missing.size > 0) {
    const loaded = load(ctx, missing, maxAgeMs)
    for (const scope of missing.keys()) {
      const one = loaded.then((all) => all.get(scope) as Kept)
      instance.running.set(scope, one)
      pending.set(scope, one)
      const settle = (kept?: Kept) => {
        if (kept !== undefined) instance.kept.set(scope, kept)
        instance.running.delete(scope)
      }
      one.then(settle, () => settle())
    }
  }
  return Promise.all(checks.map(async (check) => (await (pending.get(snapshotScope(check, ctx.env)) as Promise<Kept>)).result))
}

/** Runs the checks now, whatever is stored, and stores what they found for the others. */
export async function freshResults(ctx: Context, checks: readonly Check[]): Promise<CheckResult[]> {
  const results = await Promise.all(checks.map((check) => runCheck(ctx, check)))
  const rows = results.map((result, index) => ({ scope: snapshotScope(checks[index] as Check, ctx.env), result, lease: null }))
  const madeAtMs = ctx.clock.monotonicMs()
  for (const { scope, result } of rows) instanceOf(ctx.db).kept.set(scope, { result, madeAtMs })
  await store(ctx, rows)
  return results
}

/** A result and when it was made, on this instance's monotonic clock. */
interface Kept {
  result: CheckResult
  madeAtMs: number
}

interface Instance {
  kept: Map<string, Kept>
  running: Map<string, Promise<Kept>>
}

// A copy in front of the shared snapshot, and what holds when that cannot be read. It lives and dies with the pool of
// the instance; losing it costs one read.
const instances = new WeakMap<Database, Instance>()

function instanceOf(db: Database): Instance {
  const known = instances.get(db)
  if (known !== undefined) return known
  const made: Instance = { kept: new Map(), running: new Map() }
  instances.set(db, made)
  return made
}

async function load(ctx: Context, wanted: ReadonlyMap<string, Check>, maxAgeMs: number): Promise<Map<string, Kept>> {
  const slowestMs = Math.max(...[...wanted.values()].map((check) => check.timeoutMs))
  const leaseMs = slowestMs + 2 * snapshotLimitMs
  const results = new Map<string, Kept>()
  const left = new Map(wanted)
  const settle = (scope: string, result: CheckResult, ageMs: number) => {
    results.set(scope, { result, madeAtMs: ctx.clock.monotonicMs() - ageMs })
    left.delete(scope)
  }
  const endOfWaiting = ctx.clock.monotonicMs() + leaseMs

  for (let polls = 0; left.size > 0; polls++) {
    const seen = await claim(ctx, [...left.keys()], maxAgeMs, leaseMs)
    const waited = ctx.clock.monotonicMs() >= endOfWaiting || polls * pollMs >= leaseMs
    const mine: { scope: string; check: Check; lease: string | null }[] = []
    for (const [scope, check] of left) {
      const row = seen?.get(scope)
      if (row !== undefined && row.lease === null && row.result !== null && row.ageMs !== null && row.ageMs < maxAgeMs)
        settle(scope, row.result, row.ageMs)
      // Another instance is at it. What it replaces was good a moment ago; something older is waited for.
      else if (row !== undefined && row.lease === null && row.result !== null && row.ageMs !== null && row.ageMs < maxAgeMs + leaseMs)
        settle(scope, row.result, row.ageMs)
      else if (row === undefined || row.lease !== null || waited) mine.push({ scope, check, lease: row?.lease ?? null })
    }
    if (mine.length > 0) {
      const rows = await Promise.all(mine.map(async ({ scope, check, lease }) => ({ scope, lease, result: await runCheck(ctx, check) })))
      for (const { scope, result } of rows) settle(scope, result, 0)
      if (seen !== undefined) await store(ctx, rows)
    }
    if (left.size > 0) await delay(pollMs)
  }
  return results
}

/** Snapshots by scope; undefined where they cannot be read: the database is down, read-only, or has never seen Caretaker. */
async function claim(
  ctx: Context,
  scopes: string[],
  maxAgeMs: number,
  leaseMs: number,
): Promise<Map<string, Snapshot<CheckResult>> | undefined> {
  try {
    const rows = await claimSnapshots<CheckResult>((sql, params) => limitedProbe(ctx, sql, params), { scopes, maxAgeMs, leaseMs })
    return new Map(rows.map((row) => [row.scope, row]))
  } catch (error) {
    ctx.log.debug({ err: error }, 'health snapshots cannot be read')
    return undefined
  }
}

async function store(ctx: Context, rows: Parameters<typeof storeSnapshots>[1]): Promise<void> {
  try {
    await storeSnapshots({ execute: async (sql, params = []) => (await limitedProbe(ctx, sql, params)).length }, rows)
  } catch (error) {
    ctx.log.debug({ err: error }, 'health snapshots cannot be stored')
  }
}

async function limitedProbe<R extends Row>(ctx: Context, sql: string, params: readonly unknown[]): Promise<R[]> {
  const limit = new AbortController()
  const timer = setTimeout(() => limit.abort(), snapshotLimitMs)
  try {
    return await ctx.db.probe<R>(sql, params, limit.signal)
  } finally {
    clearTimeout(timer)
  }
}
