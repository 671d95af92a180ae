import { identifier } from '../../platform/db.ts'
import type { TouchStatement } from './batches.ts'
import type { RetentionTarget } from './target.ts'

/** Deletes the batch. */
export function purgeStatement(target: RetentionTarget): TouchStatement {
  const alias = identifier(target.table.name)
  return { params: [], touched: (leaf, where) => `delete from only ${leaf} as ${alias} where ${where} returning 1` }
}
