import { identifier } from '../../platform/db.ts'
import type { RetentionTarget } from './target.ts'
import type { Verb } from './touch.ts'

/** Deletes the batch. */
export function purgeVerb(target: Pick<RetentionTarget, 'table'>): Verb {
  const alias = identifier(target.table.name)
  return { change: (leaf, where) => `delete from only ${leaf} as ${alias} where ${where}` }
}
