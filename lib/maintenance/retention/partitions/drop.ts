import { setTimeout as delay } from 'node:timers/promises'
import { appendAudit } from '../../../platform/audit.ts'
import type { Context } from '../../../platform/context.ts'
import { remainingMs } from '../../../platform/context.ts'
import { type Queryable, qualified, type Transaction } from '../../../platform/db.ts'
import { sqlState } from '../../../platform/errors.ts'
import { isContention, withLockRetry } from '../../lock-retry.ts'
import { labelOf, type Relation } from '../../relations.ts'
import { pinnedTransaction, pinSession } from '../../session-settings.ts'
import { cutoffLiteral, type RetentionTarget } from '../target.ts'
import type { Partition } from './tree.ts'

/** How long a statement waits for a lock that keeps others waiting, milliseconds. */
const strongWaitMs = 200
/** How long DETACH CONCURRENTLY waits for transactions that are older than it. They keep nobody else waiting. */
const olderWaitMs = 1_500
const detachTries = 3

export interface Dropped {
  rows: number
  bytes: number
}

/** Stores what was dropped, in the transaction that drops it. */
export type Commit = (tx: Transaction, dropped: Dropped) => Promise<void>

export type DropOutcome = Dropped | 'hand-over' | { waitsFor: string }

/**
 * Drops a partition whose rows are all past their date. Detached first and concurrently, so that nobody who reads or writes
 * its parent waits; beside a default partition PostgreSQL allows that only under a short strong lock, in one transaction
 * with the DROP.
 * @returns what went; 'hand-over'; or what is waited for, when transactions older than the detaching do not end: the
 * partition is out of sight by then, and the next run goes on.
 */
export async function dropPartition(
  ctx: Context,
  target: RetentionTarget,
  partition: Partition,
  stop: () => boolean,
  commit: Commit,
): Promise<DropOutcome> {
  const { relation, parent } = partition
  if (partition.besideDefault) {
    const label = `${target.verb} ${target.name}: ${relation.label}`
    return withLockRetry(ctx, label, { tries: 8, firstPauseMs: 100, stop }, () =>
      pinnedTransaction(ctx, { lockTimeoutMs: strongWaitMs, statementTimeoutMs: timeLeft(ctx) }, async (tx) => {
        const dropped = await volumeOf(tx, relation)
        await tx.execute(`drop table ${relation.sql}`)
        await audit(tx, ctx, target, relation, dropped)
        await commit(tx, dropped)
        return dropped
      }),
    )
  }
  await ctx.db.execute(
    `insert into caretaker.detached_partitions (relation, name, parent, root, rule, bound, upper)
     values ($1::oid, $2, $3, $4, $5, $6, $7) on conflict (relation) do nothing`,
    [relation.oid, relation.label, parent.label, target.table.label, target.name, partition.bound, partition.to],
  )
  const detached = await detach(ctx, { relation, parent: parent.sql }, stop)
  return detached === 'done' ? dropDetached(ctx, target, relation, stop, commit) : detached
}

/** Detaches concurrently, and ends what an earlier try left half-done. */
async function detach(
  ctx: Context,
  { relation, parent }: { relation: Relation; parent: string },
  stop: () => boolean,
): Promise<'done' | 'hand-over' | { waitsFor: string }> {
  for (let attempt = 1; ; attempt++) {
    const state = await stateOf(ctx.db, relation)
    if (state === 'detached' || state === 'gone') return 'done'
    if (stop()) return 'hand-over'
    try {
      await ctx.db.session(async (session) => {
        await pinSession(ctx, session, { lockTimeoutMs: olderWaitMs })
        await session.execute(`alter table ${parent} detach partition ${relation.sql} ${state === 'pending' ? 'finalize' : 'concurrently'}`)
      })
    } catch (error) {
      // 55000 and 42P01: another run is at it, or has done it.
      if (!isContention(error) && !['55000', '42P01'].includes(sqlState(error) ?? '')) throw error
      if (attempt >= detachTries) return { waitsFor: `transactions that began before ${relation.label} was detached have not ended` }
      await delay(250 * attempt, undefined, { signal: ctx.signal }).catch(() => undefined)
    }
  }
}

type State = 'attached' | 'pending' | 'detached' | 'gone'

async function stateOf(db: Queryable, relation: Pick<Relation, 'oid' | 'label'>): Promise<State> {
  const [row] = await db.query<{ schema: string; name: string; pending: boolean | null }>(
    `select n.nspname as schema, c.relname as name, (select inhdetachpending from pg_inherits where inhrelid = c.oid) as pending
     from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = $1::oid`,
    [relation.oid],
  )
  // Another name is another table: whoever renamed it has plans of his own.
  if (row === undefined || labelOf(row.schema, row.name) !== relation.label) return 'gone'
  return row.pending === null ? 'detached' : row.pending ? 'pending' : 'attached'
}

async function dropDetached(
  ctx: Context,
  target: RetentionTarget,
  relation: Relation,
  stop: () => boolean,
  commit: Commit,
): Promise<Dropped | 'hand-over'> {
  const label = `${target.verb} ${target.name}: ${relation.label}`
  return withLockRetry(ctx, label, { tries: 8, firstPauseMs: 100, stop }, () =>
    pinnedTransaction(ctx, { lockTimeoutMs: strongWaitMs, statementTimeoutMs: timeLeft(ctx) }, async (tx) => {
      const mine = await tx.execute('delete from caretaker.detached_partitions where relation = $1::oid', [relation.oid])
      // Another run was faster: what it dropped it has counted.
      if (mine === 0 || (await stateOf(tx, relation)) !== 'detached') return { rows: 0, bytes: 0 }
      const dropped = await volumeOf(tx, relation)
      await tx.execute(`drop table ${relation.sql}`)
      await audit(tx, ctx, target, relation, dropped)
      await commit(tx, dropped)
      return dropped
    }),
  )
}

/** Counting takes as long as it takes; what bounds it is the invocation. Supabase gives its roles two minutes. */
function timeLeft(ctx: Context): number {
  return Math.max(10_000, remainingMs(ctx))
}

async function volumeOf(db: Queryable, relation: Relation): Promise<Dropped> {
  const [row] = await db.query<Dropped & Record<string, unknown>>(
    `select (select count(*)::float8 from ${relation.sql}) as rows,
            coalesce((select sum(pg_total_relation_size(relid)) from pg_partition_tree($1::oid)), pg_total_relation_size($1::oid))::float8 as bytes`,
    [relation.oid],
  )
  return { rows: row?.rows ?? 0, bytes: row?.bytes ?? 0 }
}

async function audit(tx: Transaction, ctx: Context, target: RetentionTarget, relation: Relation, dropped: Dropped): Promise<void> {
  await appendAudit(tx, ctx, {
    action: 'retention.partition_dropped',
    target: target.table.label,
    detail: { rule: target.name, partition: relation.label, ...dropped },
  })
}

/** A partition that a killed run, or one that waited in vain, has left on its way out. */
export interface LeftOver {
  relation: Relation
  parent: string
  bound: string
  state: State
  /** The rule would still take all of it. */
  past: boolean
}

/** What earlier runs of rules for the table left between detaching and dropping. Reads only; nothing where Caretaker's tables are not there. */
export async function leftOvers(db: Queryable, target: RetentionTarget, cutoff: string | null): Promise<LeftOver[]> {
  const [there] = await db.query<{ there: boolean }>(`select to_regclass('caretaker.detached_partitions') is not null as there`)
  if (there?.there !== true || target.age === undefined) return []
  const past = target.verb === 'purge' && cutoff !== null && target.rule.where === undefined
  const rows = await db.query<{ oid: number; name: string; parent: string; bound: string; past: boolean }>(
    `select relation::int8::float8 as oid, name, parent, bound,
            ${past ? `upper::${target.age.baseType} <= ${cutoffLiteral(target.name, target.age, cutoff)}` : 'false'} as past
     from caretaker.detached_partitions where root = $1 order by since, name`,
    [target.table.label],
  )
  const found: LeftOver[] = []
  for (const row of rows) {
    const relation = named(row.oid, row.name)
    const state = await stateOf(db, relation)
    found.push({ relation, parent: named(0, row.parent).sql, bound: row.bound, state, past: row.past })
  }
  return found
}

function named(oid: number, label: string): Relation {
  const dot = label.indexOf('.')
  const [schema, name] = dot < 0 ? ['public', label] : [label.slice(0, dot), label.slice(dot + 1)]
  return { oid, schema, name, kind: 'r', label, sql: qualified(schema, name) }
}

/** Brings what an earlier run left to its end: dropped where the rule still says so, attached again where it does not. */
export async function finishLeftOver(
  ctx: Context,
  target: RetentionTarget,
  left: LeftOver,
  stop: () => boolean,
  commit: Commit,
): Promise<DropOutcome> {
  const forget = (tx: Queryable) => tx.execute('delete from caretaker.detached_partitions where relation = $1::oid', [left.relation.oid])
  const nothing: Dropped = { rows: 0, bytes: 0 }
  // It never came to the detaching and is a partition like the others; or somebody has dropped or renamed it, which ends the matter.
  if (left.state === 'attached' || left.state === 'gone') {
    await forget(ctx.db)
    return nothing
  }
  if (left.state === 'pending') {
    const detached = await detach(ctx, left, stop)
    if (detached !== 'done') return detached
  }
  if (left.past) return dropDetached(ctx, target, left.relation, stop, commit)
  return withLockRetry(ctx, `${target.verb} ${target.name}: ${left.relation.label}`, { tries: 8, firstPauseMs: 100, stop }, () =>
    pinnedTransaction(ctx, { lockTimeoutMs: strongWaitMs, statementTimeoutMs: timeLeft(ctx) }, async (tx) => {
      if ((await stateOf(tx, left.relation)) === 'detached')
        await tx.execute(`alter table ${left.parent} attach partition ${left.relation.sql} ${left.bound}`)
      await forget(tx)
      return nothing
    }),
  )
}
