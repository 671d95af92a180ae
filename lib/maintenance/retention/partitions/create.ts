import type { Context } from '../../../platform/context.ts'
import { identifier, type Transaction } from '../../../platform/db.ts'
import { CaretakerError } from '../../../platform/errors.ts'
import { withLockRetry } from '../../lock-retry.ts'
import type { Column, Relation } from '../../relations.ts'
import { pinnedTransaction, reading } from '../../session-settings.ts'
import { literal } from '../anonymise.ts'
import { type ComingOptions, type ComingPartition, comingPartitions } from './coming.ts'
import { loadPartitions } from './tree.ts'

/** More rows of a default partition than this are not moved under its lock, milliseconds of which every row costs. */
const mostMoved = 100_000
const tableWaitMs = 200

/**
 * Makes the partitions that must be there and are not, each in a transaction of its own: a table made like its parent,
 * filled with what the default partition holds for it, and attached. ATTACH takes a weaker lock on the parent than
 * CREATE … PARTITION OF: nobody who reads or writes it waits.
 * @returns how many, or 'hand-over'
 * @throws {CaretakerError} `conflict` when the table stays locked, `job_failed` when the default partition holds too many of its rows
 */
export async function createComing(
  ctx: Context,
  label: string,
  table: Relation,
  age: Column,
  options: ComingOptions,
  stop: () => boolean,
): Promise<number | 'hand-over'> {
  let created = 0
  for (const partition of await reading(ctx, (tx) => comingPartitions(tx, table, age, options))) {
    if (stop()) return 'hand-over'
    if (partition.rowsInDefault > mostMoved)
      throw new CaretakerError(
        'job_failed',
        `${label}: the default partition of ${table.label} holds ${partition.rowsInDefault} rows that belong into ${partition.label} (${partition.from} to ${partition.to}), more than the ${mostMoved} that are moved while it is locked. Move them by hand at a quiet time.`,
      )
    const made = await withLockRetry(ctx, `${label}: ${table.label}`, { tries: 8, firstPauseMs: 100, stop }, () =>
      pinnedTransaction(ctx, { lockTimeoutMs: tableWaitMs }, (tx) => create(tx, table, age, partition)),
    )
    if (made === 'hand-over') return 'hand-over'
    if (made) created++
  }
  return created
}

/** False when another run has made it since. */
async function create(tx: Transaction, table: Relation, age: Column, partition: ComingPartition): Promise<boolean> {
  // Two runs at once would both find the same gap.
  await tx.execute(`select pg_advisory_xact_lock(hashtextextended('caretaker:partitions:' || $1, 0))`, [table.label])
  const siblings = (await loadPartitions(tx, table.oid, age, null)).filter(({ parent }) => parent.oid === table.oid)
  if (siblings.some(({ from, relation }) => from === partition.from || relation.name === partition.name)) return false
  const { sql } = partition
  // Not its indexes and identities: those come from the parent when it is attached.
  await tx.execute(
    `create table ${sql} (like ${table.sql} including defaults including constraints including generated including storage including comments)`,
  )
  const [secured] = await tx.query<{ rls: boolean; forced: boolean }>(
    'select relrowsecurity as rls, relforcerowsecurity as forced from pg_class where oid = $1::oid',
    [table.oid],
  )
  // A partition can be read by its own name: what protects its parent must protect it.
  if (secured?.rls === true) await tx.execute(`alter table ${sql} enable row level security`)
  if (secured?.forced === true) await tx.execute(`alter table ${sql} force row level security`)
  const overflow = siblings.find(({ isDefault }) => isDefault)
  if (overflow !== undefined) await moveFromDefault(tx, overflow.relation, age, partition)
  await tx.execute(
    `alter table ${table.sql} attach partition ${sql} for values from (${literal(partition.from)}) to (${literal(partition.to)})`,
  )
  return true
}

/** Rows for the new partition wait in the default one, and would keep it from being attached. */
async function moveFromDefault(tx: Transaction, overflow: Relation, age: Column, { sql, from, to }: ComingPartition): Promise<void> {
  // Nobody may add another one between the move and the attaching, which takes this lock anyway.
  await tx.execute(`lock table ${overflow.sql} in access exclusive mode`)
  const columns = await tx.query<{ name: string }>(
    `select attname as name from pg_attribute where attrelid = $1::oid and attnum > 0 and not attisdropped and attgenerated = '' order by attnum`,
    [overflow.oid],
  )
  const list = columns.map(({ name }) => identifier(name)).join(', ')
  const column = identifier(age.name)
  await tx.execute(
    `with moved as (delete from ${overflow.sql} where ${column} >= ${literal(from)}::${age.baseType} and ${column} < ${literal(to)}::${age.baseType} returning ${list})
     insert into ${sql} (${list}) select ${list} from moved`,
  )
}
