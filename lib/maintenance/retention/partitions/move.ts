import { appendAudit } from '../../../platform/audit.ts'
import type { Context } from '../../../platform/context.ts'
import { identifier, type Queryable } from '../../../platform/db.ts'
import { withLockRetry } from '../../lock-retry.ts'
import type { Column } from '../../relations.ts'
import { pinnedTransaction, reading } from '../../session-settings.ts'
import { literal } from '../anonymise.ts'
import type { RetentionTarget } from '../target.ts'
import type { Commit, Dropped } from './drop.ts'
import { loadPartitions, type Partition, partitionKeyProblem } from './tree.ts'

const strongWaitMs = 200
/** A check that says what the bounds say lets ATTACH believe them without reading the table under its lock. */
const boundsCheck = 'caretaker_bounds'

/**
 * Why a partition cannot become one of the archive as it is; undefined when it can. What ATTACH would have to build or to
 * read under its lock is a reason too: then the rows are moved in batches.
 */
export async function moveProblem(db: Queryable, target: RetentionTarget, age: Column, partition: Partition): Promise<string | undefined> {
  const archive = target.archive?.table
  if (archive === undefined) return 'there is no archive'
  if (partition.relation.kind !== 'r') return 'it has partitions of its own'
  if ((await partitionKeyProblem(db, archive, age.name)) !== undefined) return `${archive.label} is not partitioned by range of ${age.name}`
  const [shape] = await db.query<{ columns: boolean; constraints: boolean; indexes: boolean }>(
    `with p as (select * from pg_attribute where attrelid = $1::oid and attnum > 0 and not attisdropped),
          a as (select * from pg_attribute where attrelid = $2::oid and attnum > 0 and not attisdropped)
     select not exists (select from p full join a using (attname)
                        where p.attname is null or a.attname is null or p.atttypid <> a.atttypid or p.atttypmod <> a.atttypmod
                           or p.attcollation <> a.attcollation or p.attgenerated <> a.attgenerated or (a.attnotnull and not p.attnotnull)) as columns,
            not exists (select from pg_constraint where conrelid = $2::oid and contype in ('c', 'f')) as constraints,
            not exists (select from pg_index i where i.indrelid = $2::oid and not exists (
              select from pg_index q where q.indrelid = $1::oid and q.indisvalid and q.indisunique = i.indisunique and q.indisprimary = i.indisprimary
                and regexp_replace(pg_get_indexdef(q.indexrelid), '^.* USING ', '') = regexp_replace(pg_get_indexdef(i.indexrelid), '^.* USING ', ''))) as indexes`,
    [partition.relation.oid, archive.oid],
  )
  if (shape?.columns !== true) return `${archive.label} has other columns`
  if (!shape.constraints) return `${archive.label} has checks or foreign keys of its own`
  if (!shape.indexes) return `${archive.label} has indexes that it lacks`
  const there = (await loadPartitions(db, archive.oid, age, null)).filter(({ parent }) => parent.oid === archive.oid)
  if (there.some(({ isDefault }) => isDefault)) return `${archive.label} has a default partition`
  const [overlap] = await db.query<{ label: string | null }>(
    `select min(l) as label from unnest($1::text[], $2::text[], $3::text[]) as x(l, f, t)
     where (f is null or $5::text is null or f::${age.baseType} < $5::text::${age.baseType}) and (t is null or $4::text is null or t::${age.baseType} > $4::text::${age.baseType})`,
    [there.map(({ relation }) => relation.label), there.map(({ from }) => from), there.map(({ to }) => to), partition.from, partition.to],
  )
  return overlap?.label == null ? undefined : `${overlap.label} of ${archive.label} holds a part of its time`
}

/**
 * Moves a partition into the archive as it is: detached here and attached there by one transaction, so no instant exists
 * at which its rows are in both or neither. Its bounds are checked before, under a lock that lets others read and write.
 * @throws {CaretakerError} `conflict` when the table stays locked
 */
export async function movePartition(
  ctx: Context,
  target: RetentionTarget,
  age: Column,
  partition: Partition,
  stop: () => boolean,
  commit: Commit,
): Promise<Dropped | 'hand-over'> {
  const { relation, parent, from, to } = partition
  const archive = target.archive?.table
  if (archive === undefined) return { rows: 0, bytes: 0 }
  const column = identifier(age.name)
  const bounds = [
    `${column} is not null`,
    ...(from === null ? [] : [`${column} >= ${literal(from)}::${age.baseType}`]),
    ...(to === null ? [] : [`${column} < ${literal(to)}::${age.baseType}`]),
  ]
  const patience = { tries: 8, firstPauseMs: 100, stop }
  const label = `${target.verb} ${target.name}: ${relation.label}`
  const checked = await withLockRetry(ctx, label, patience, async () => {
    await pinnedTransaction(ctx, { lockTimeoutMs: strongWaitMs }, async (tx) => {
      await tx.execute(`alter table ${relation.sql} drop constraint if exists ${boundsCheck}`)
      await tx.execute(`alter table ${relation.sql} add constraint ${boundsCheck} check (${bounds.join(' and ')}) not valid`)
    })
    await pinnedTransaction(ctx, { lockTimeoutMs: strongWaitMs }, (tx) =>
      tx.execute(`alter table ${relation.sql} validate constraint ${boundsCheck}`),
    )
  })
  if (checked === 'hand-over') return 'hand-over'
  const moved = await reading(ctx, async (tx) => {
    const [row] = await tx.query<Dropped & Record<string, unknown>>(
      `select (select count(*)::float8 from ${relation.sql}) as rows, pg_total_relation_size($1::oid)::float8 as bytes`,
      [relation.oid],
    )
    return { rows: row?.rows ?? 0, bytes: row?.bytes ?? 0 }
  })
  return withLockRetry(ctx, label, patience, () =>
    pinnedTransaction(ctx, { lockTimeoutMs: strongWaitMs }, async (tx) => {
      await tx.execute(`alter table ${parent.sql} detach partition ${relation.sql}`)
      const [secured] = await tx.query<{ rls: boolean }>('select relrowsecurity as rls from pg_class where oid = $1::oid', [archive.oid])
      if (secured?.rls === true) await tx.execute(`alter table ${relation.sql} enable row level security`)
      await tx.execute(`alter table ${archive.sql} attach partition ${relation.sql} ${partition.bound}`)
      await tx.execute(`alter table ${relation.sql} drop constraint if exists ${boundsCheck}`)
      await appendAudit(tx, ctx, {
        action: 'retention.partition_moved',
        target: target.table.label,
        detail: { rule: target.name, partition: relation.label, to: archive.label, ...moved },
      })
      await commit(tx, moved)
      return moved
    }),
  )
}

/**
 * Drops a partition that batches have emptied, under a short strong lock; leaves it where a row has come since.
 * @returns true when it is gone
 */
export async function dropEmptied(
  ctx: Context,
  target: RetentionTarget,
  { relation, parent }: Partition,
  stop: () => boolean,
  commit: Commit,
): Promise<boolean | 'hand-over'> {
  const holdsRows = async (db: Queryable) => (await db.query(`select from ${relation.sql} limit 1`)).length > 0
  if (await reading(ctx, holdsRows)) return false
  return withLockRetry(ctx, `${target.verb} ${target.name}: ${relation.label}`, { tries: 8, firstPauseMs: 100, stop }, () =>
    pinnedTransaction(ctx, { lockTimeoutMs: strongWaitMs }, async (tx) => {
      await tx.execute(`lock table only ${parent.sql}, ${relation.sql} in access exclusive mode`)
      if (await holdsRows(tx)) return false
      await tx.execute(`alter table ${parent.sql} detach partition ${relation.sql}`)
      await tx.execute(`drop table ${relation.sql}`)
      await appendAudit(tx, ctx, {
        action: 'retention.partition_dropped',
        target: target.table.label,
        detail: { rule: target.name, partition: relation.label, rows: 0 },
      })
      await commit(tx, { rows: 0, bytes: 0 })
      return true
    }),
  )
}
