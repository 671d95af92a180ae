import { splitStatements } from '../sql/split-statements.ts'
import { nameOf } from '../table-name.ts'
import { attachedPartition } from './post-data.ts'

/** The table that each partition is one of, by the partition's name (see `nameOf`), as pg_dump's pre-data puts them together. */
export function partitionsOf(preData: string, restrictKey: string): Map<string, { schema: string; name: string }> {
  const parents = new Map<string, { schema: string; name: string }>()
  for (const { type, sql } of splitStatements(preData, restrictKey)) {
    const attached = type === 'TABLE ATTACH' ? attachedPartition(sql) : undefined
    if (attached !== undefined) parents.set(nameOf(attached.partition), attached.parent)
  }
  return parents
}
