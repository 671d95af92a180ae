import type { Queryable } from '../../../platform/db.ts'
import { loadReferences } from '../foreign-keys.ts'
import { cutoffLiteral, type RetentionTarget } from '../target.ts'
import { moveProblem } from './move.ts'
import { loadPartitions, type Partition, untouched, wholePast } from './tree.ts'

/** What becomes of partitions that are past their date as a whole. */
export interface WaysOut {
  /** Detached and dropped. */
  dropped: Partition[]
  /** Moved into the archive as they are. */
  moved: Partition[]
  /** Emptied in batches, and then dropped; with why not at once. */
  emptied: { partition: Partition; because: string }[]
  /** Emptied in batches, and left; with why. */
  kept: { partition: Partition; because: string }[]
  /** Physical tables that hold nothing the rule could take, by oid. */
  untouched: Set<number>
}

/** Decides for each partition that is past its date. Reads only; call it inside a pinned transaction. */
export async function waysOut(db: Queryable, target: RetentionTarget, cutoff: string | null): Promise<WaysOut> {
  const ways: WaysOut = { dropped: [], moved: [], emptied: [], kept: [], untouched: new Set() }
  const { age, rule, verb, table } = target
  if (age === undefined || cutoff === null || table.kind !== 'p') return ways
  const partitions = await loadPartitions(db, table.oid, age, cutoffLiteral(target.name, age, cutoff))
  ways.untouched = untouched(partitions)
  // A condition beside the age takes some of a partition's rows, not the partition.
  if ((verb !== 'purge' && verb !== 'archive') || rule.where !== undefined || rule.partitions?.drop === false) return ways
  const referring = await loadReferences(db, table.oid)
  for (const partition of wholePast(partitions)) {
    if (!partition.owned) {
      ways.kept.push({ partition, because: 'the role does not own it and its table' })
      continue
    }
    if (partition.dependent !== null) {
      ways.kept.push({ partition, because: `${partition.dependent} depends on it` })
      continue
    }
    const references = [...referring, ...(await loadReferences(db, partition.relation.oid))]
    const [reference] = references
    const because =
      reference !== undefined
        ? `${reference.child.label} refers to it (${reference.constraint}), and a foreign key looks at rows that are deleted, not at a table that is dropped`
        : target.descents.length > 0
          ? 'rows of other tables go along'
          : verb === 'archive'
            ? await moveProblem(db, target, age, partition)
            : undefined
    if (because !== undefined) ways.emptied.push({ partition, because })
    else if (verb === 'archive') ways.moved.push(partition)
    else ways.dropped.push(partition)
  }
  // Their rows go with them.
  for (const { relation } of [...ways.dropped, ...ways.moved]) ways.untouched.add(relation.oid)
  for (const { relation, parent } of partitions) if (ways.untouched.has(parent.oid)) ways.untouched.add(relation.oid)
  return ways
}
