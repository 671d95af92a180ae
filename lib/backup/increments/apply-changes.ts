import type { Session } from '../../platform/db.ts'
import { CaretakerError, sqlState } from '../../platform/errors.ts'
import type { ColumnValue, TableName, Tuple } from './change-text.ts'
import { formatInstant } from './instant.ts'
import type { ChangeSink, Commit, RowChange } from './read-changes.ts'
import {
  deleteSql,
  deleteWholeRowSql,
  insertSql,
  type TargetColumn,
  type TargetTable,
  updateSql,
  updateWholeRowSql,
} from './target-table.ts'

export interface ApplyOptions {
  tables: ReadonlyMap<string, TargetTable>
  /** Tables that stay as the base has them, as `schema.table`. */
  frozen: ReadonlySet<string>
  onProgress?: (changes: number) => void
}

type Operation = 'insert' | 'update' | 'delete'

/** Rows for one statement: the same operation on the same columns of one table, no row twice. */
interface Batch {
  table: TargetTable
  operation: Operation
  /** What is set or inserted. */
  columns: readonly TargetColumn[]
  signature: string
  rows: (string | null)[][]
  keys: Set<string>
  bytes: number
}

const batchRows = 256
const batchBytes = 4 * 1024 * 1024
const sizes = [256, 32, 4, 1]
const parametersOfStatement = 30_000
/** Changes after which the target commits, at the end of a transaction of the source. */
const commitChanges = 5_000

/**
 * Repeats changes in a database that holds the base. Triggers and foreign keys are still: then changes of different
 * tables do not touch each other, and those of one table go together as long as no row comes twice.
 */
export class ChangeApplier implements ChangeSink {
  readonly #session: Session
  readonly #options: ApplyOptions
  readonly #batches = new Map<TargetTable, Batch>()
  #open = false
  #sinceCommit = 0
  #waitingBytes = 0

  changes = 0
  transactions = 0
  last: Commit | null = null
  /** Tables, as SQL names them. */
  readonly touched = new Set<string>()

  constructor(session: Session, options: ApplyOptions) {
    this.#session = session
    this.#options = options
  }

  change(change: RowChange): Promise<void> | undefined {
    this.changes++
    if (change.kind === 'truncate') return this.#truncate(change.tables)
    if (this.#options.frozen.has(nameOf(change.table))) return undefined
    const table = this.#tableOf(change.table)
    if (change.kind === 'insert') {
      const columns = this.#written(table, change.row)
      return this.#add(table, 'insert', columns, [], values(change.row, columns), keyIn(table, change.row))
    }
    const old = change.old ?? (change.kind === 'update' ? change.row : null)
    if (old === null) throw this.#mismatch(table, 'a delete that names no row')
    if (table.key.length === 0) return this.#wholeRow(table, change.kind, change.old, change.kind === 'update' ? change.row : null)
    const before = keyIn(table, old)
    if (change.kind === 'delete') return this.#add(table, 'delete', [], before, [], before)
    const set = this.#written(table, change.row).filter((column) => !column.always && change.row.get(column.name) !== undefined)
    if (set.length === 0) return undefined
    return this.#add(table, 'update', set, before, values(change.row, set), before, keyIn(table, change.row, before))
  }

  async commit(commit: Commit): Promise<void> {
    this.transactions++
    this.last = commit
    if (this.#sinceCommit < commitChanges) return
    await this.flush()
  }

  /** Writes what waits and commits it. */
  async flush(): Promise<void> {
    for (const batch of [...this.#batches.values()]) await this.#write(batch)
    if (this.#open) await this.#session.execute('commit')
    this.#open = false
    this.#sinceCommit = 0
    this.#options.onProgress?.(this.changes)
  }

  #tableOf(name: TableName): TargetTable {
    const table = this.#options.tables.get(nameOf(name))
    if (table === undefined)
      throw new CaretakerError(
        'restore_mismatch',
        `The changes speak of a table ${nameOf(name)} that the full backup does not have${this.#where()}.`,
      )
    this.touched.add(table.sql)
    return table
  }

  /** The columns of a row that are written, in the row's order. */
  #written(table: TargetTable, row: Tuple): TargetColumn[] {
    const columns: TargetColumn[] = []
    for (const name of row.keys()) {
      const column = table.columns.get(name)
      if (column === undefined)
        throw new CaretakerError(
          'restore_mismatch',
          `The changes of ${table.label} speak of a column "${name}" that the full backup does not have${this.#where()}.`,
        )
      if (!column.generated) columns.push(column)
    }
    return columns
  }

  #where(): string {
    return this.last === null ? '' : `; the newest moment before it is ${formatInstant(this.last.at)}`
  }

  #mismatch(table: TargetTable, what: string): CaretakerError {
    return new CaretakerError(
      'restore_mismatch',
      `${table.label}: ${what}; the target is not what the increments go on from${this.#where()}.`,
    )
  }

  #add(
    table: TargetTable,
    operation: Operation,
    columns: readonly TargetColumn[],
    key: readonly ColumnValue[],
    row: (string | null)[],
    ...touches: readonly (readonly ColumnValue[])[]
  ): Promise<void> | undefined {
    const waiting = this.#batches.get(table)
    const signature = columns.map((column) => column.name).join('\0')
    const ids = table.key.length === 0 ? [] : touches.map((touched) => JSON.stringify(touched))
    const fits =
      waiting === undefined ||
      (waiting.operation === operation && waiting.signature === signature && !ids.some((id) => waiting.keys.has(id)))
    if (!fits) return this.#write(waiting).then(() => this.#add(table, operation, columns, key, row, ...touches))
    const batch = waiting ?? { table, operation, columns, signature, rows: [], keys: new Set(), bytes: 0 }
    if (waiting === undefined) this.#batches.set(table, batch)
    const parameters = [...key.map((value) => value ?? null), ...row]
    batch.rows.push(parameters)
    for (const id of ids) batch.keys.add(id)
    const bytes = parameters.reduce((sum, value) => sum + (value?.length ?? 0), 0)
    batch.bytes += bytes
    this.#waitingBytes += bytes
    this.#sinceCommit++
    if (batch.rows.length >= batchRows || batch.bytes >= batchBytes) return this.#write(batch)
    // Many tables with a little each must not add up to much.
    return this.#waitingBytes >= 4 * batchBytes ? this.#writeAll() : undefined
  }

  async #writeAll(): Promise<void> {
    for (const batch of [...this.#batches.values()]) await this.#write(batch)
  }

  async #begin(): Promise<void> {
    if (this.#open) return
    await this.#session.execute('begin')
    // What the source checked at the end of a transaction is checked there here too.
    await this.#session.execute('set constraints all deferred')
    this.#open = true
  }

  async #write(batch: Batch): Promise<void> {
    this.#batches.delete(batch.table)
    this.#waitingBytes -= batch.bytes
    await this.#begin()
    await this.#session.execute('savepoint batch')
    try {
      await this.#writeRows(batch, batch.rows, sizes)
    } catch (error) {
      // A value that one row gives up and another takes: in one statement their order is not kept.
      if (!['23505', '23P01'].includes(sqlState(error) ?? '')) throw this.#refusal(batch.table, error)
      await this.#session.execute('rollback to savepoint batch')
      await this.#writeRows(batch, batch.rows, [1]).catch((again: unknown) => {
        throw this.#refusal(batch.table, again)
      })
    }
    await this.#session.execute('release savepoint batch')
  }

  async #writeRows(batch: Batch, rows: readonly (string | null)[][], allowed: readonly number[]): Promise<void> {
    const { table, operation, columns } = batch
    const width = Math.max(1, rows[0]?.length ?? 1)
    for (let at = 0; at < rows.length; ) {
      const size = allowed.find((one) => one <= rows.length - at && one * width <= parametersOfStatement) ?? 1
      const count = columns.length === 0 && operation === 'insert' ? 1 : size
      const text =
        operation === 'insert'
          ? insertSql(table, columns, count)
          : operation === 'update'
            ? updateSql(table, columns, count)
            : deleteSql(table, count)
      const done = await this.#run(text, rows.slice(at, at + count).flat())
      if (done !== count) throw this.#mismatch(table, `${count - done} of ${count} rows to ${operation} are not there`)
      at += count
    }
  }

  /** Prepared once a shape: parsing a statement of 256 rows takes as long as running it. */
  async #run(text: string, values: (string | null)[]): Promise<number> {
    const result = await this.#session.client.query({ text, values, name: this.#nameOf(text) })
    return result.rowCount ?? 0
  }

  readonly #names = new Map<string, string>()

  #nameOf(text: string): string {
    const known = this.#names.get(text)
    if (known !== undefined) return known
    const name = `caretaker_${this.#names.size}`
    this.#names.set(text, name)
    return name
  }

  async #wholeRow(table: TargetTable, kind: 'update' | 'delete', old: Tuple | null, row: Tuple | null): Promise<void> {
    if (old === null) throw this.#mismatch(table, `an ${kind} that names no row`)
    const waiting = this.#batches.get(table)
    if (waiting !== undefined) await this.#write(waiting)
    await this.#begin()
    this.#sinceCommit++
    // The log leaves null out of an old row.
    const all = [...table.columns.values()].filter((column) => !column.generated)
    const before = all.map((column) => old.get(column.name) ?? null)
    let done: number
    try {
      if (row === null) done = await this.#run(deleteWholeRowSql(table, all), before)
      else {
        const set = this.#written(table, row).filter((column) => !column.always && row.get(column.name) !== undefined)
        if (set.length === 0) return
        done = await this.#run(updateWholeRowSql(table, all, set), [...before, ...values(row, set)])
      }
    } catch (error) {
      throw this.#refusal(table, error)
    }
    if (done !== 1) throw this.#mismatch(table, `the row to ${kind} is not there`)
  }

  async #truncate(names: readonly TableName[]): Promise<void> {
    // A partitioned table is named along with its partitions; others may be of what a backup leaves out.
    const tables = names.flatMap((name) => (this.#options.frozen.has(nameOf(name)) ? [] : (this.#options.tables.get(nameOf(name)) ?? [])))
    if (tables.length === 0) return
    for (const table of tables) {
      this.touched.add(table.sql)
      const waiting = this.#batches.get(table)
      if (waiting !== undefined) await this.#write(waiting)
    }
    await this.#begin()
    this.#sinceCommit++
    await this.#session.execute('savepoint truncation')
    try {
      await this.#session.execute(`truncate ${tables.map((table) => `only ${table.sql}`).join(', ')}`)
    } catch (error) {
      // A table that refers to one of them was left out.
      if (sqlState(error) !== '0A000') throw error
      await this.#session.execute('rollback to savepoint truncation')
      for (const table of tables) await this.#session.execute(`delete from only ${table.sql}`)
    }
    await this.#session.execute('release savepoint truncation')
  }

  #refusal(table: TargetTable, error: unknown): unknown {
    if (error instanceof CaretakerError || sqlState(error) === undefined) return error
    return new CaretakerError(
      'restore_mismatch',
      `${table.label}: the target refused a change (${error instanceof Error ? error.message : 'unknown'}, SQLSTATE ${sqlState(error)})${this.#where()}.`,
      { cause: error },
    )
  }
}

function nameOf(table: TableName): string {
  return `${table.schema}.${table.name}`
}

function values(row: Tuple, columns: readonly TargetColumn[]): (string | null)[] {
  return columns.map((column) => row.get(column.name) ?? null)
}

/** The key's values in a row; where the row leaves one as it was, those of `otherwise`. */
function keyIn(table: TargetTable, row: Tuple, otherwise: readonly ColumnValue[] = []): ColumnValue[] {
  return table.key.map((column, index) => row.get(column.name) ?? otherwise[index] ?? null)
}
