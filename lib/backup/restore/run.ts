import { CaretakerError, sqlState } from '../../platform/errors.ts'
import type { Loading, RestoredTable } from '../load-tables.ts'
import type { ScriptRules } from '../run-script.ts'
import type { Journal } from './journal.ts'
import type { RestoreGroup } from './order.ts'
import type { PostData } from './post-data.ts'
import type { Stopwatch } from './stopwatch.ts'
import type { TargetTables } from './target-tables.ts'

/** What the parts of a full restore share. */
export interface Run {
  loading: Loading
  journal: Journal
  rules: ScriptRules
  post: PostData
  groups: readonly RestoreGroup[]
  target: TargetTables
  /** By `schema.table`. */
  restored: Map<string, RestoredTable>
  /** Read every row back, also where the proof needs only a part. */
  readAll: boolean
  stopwatch: Stopwatch
  /** Positions in post-data that could not be done with their table, and are tried again at the end. */
  postponed: Set<number>
}

/** True where a statement speaks of something that is not there yet, or not as it will be: then it is tried again at the end. */
export function mayWait(error: unknown): boolean {
  const state = sqlState(error instanceof CaretakerError ? error.cause : error)
  return state !== undefined && /^(?:42|0A|3F|55000)/.test(state)
}
