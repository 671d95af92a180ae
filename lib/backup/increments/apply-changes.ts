import type { Session } from '../../platform/db.ts'
import { CaretakerError, sqlState } from '../../platform/errors.ts'
import { nameOf } from '../table-name.ts'
import type { ColumnValue, TableName, Tuple } from './change-text.ts'
import { formatInstant } from './instant.ts'
import { formatLsn, lsn } from './position.ts'
import type { ChangeSink, Commit, Place, RowChange } from './read-changes.ts'
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
  /** What an earlier run has repeated; null where there was none. */
  from: Repeated | null
  /** Gives the statement that notes how far it is, in the transaction that gets there. */
  noting: (repeated: Repeated) => { sql: string; done(): void }
}

/** How far changes have been repeated; plain JSON. */
export interface Repeated {
  place: Place
  lsn: string
  at: string
  transactions: number
  changes: number
  touched: string[]
}

type Operation = 'insert' | 'update' | 'delete'

/** The same operation on the same columns of one table: one object for all changes of that kind. */
interface Shape {
  table: TargetTable
  operation: Operation
  /** What is set or inserted. */
  columns: readonly TargetColumn[]
  /** By the number of rows, prepared once: parsing a statement of 256 rows takes as long as running it. */
  statements: Map<number, { name: string; text: string }>
}

/** Rows for one statement, no row twice. */
interface Batch {
  shape: Shape
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
    const { from } = options
    if (from === null) return
    this.changes = from.changes
    this.transactions = from.transactions
    this.last = { lsn: lsn(from.lsn), at: BigInt(from.at), place: from.place }
    for (const table of from.touched) this.touched.add(table)
  }

  /*
   * Called for every change there is: what it makes and throws away is what a long replay costs, in memory, too. So columns
   * and statements are looked up, not made.
   */
  change(change: RowChange): Promise<void> | undefined {
    this.changes++
    if (change.kind === 'truncate') return this.#truncate(change.tables)
    if (this.#options.frozen.size > 0 && this.#options.frozen.has(nameOf(change.table))) return undefined
    const table = this.#tableOf(change.table)
    if (change.kind === 'insert') {
      const shape = this.#shapeOf(table, 'insert', change.row)
      return this.#add(shape, parametersOf(shape.columns, change.row), keyId(table, change.row))
    }
    const old = change.old ?? (change.kind === 'update' ? change.row : null)
    if (old === null) throw this.#mismatch(table, 'a delete that names no row')
    if (table.key.length === 0) return this.#wholeRow(table, change.kind, change.old, change.kind === 'update' ? change.row : null)
    if (change.kind === 'delete') return this.#add(this.#shapeOf(table, 'delete', null), parametersOf(table.key, old), keyId(table, old))
    const shape = this.#shapeOf(table, 'update', change.row)
    if (shape.columns.length === 0) return undefined
    const parameters = parametersOf(table.key, old)
    for (const column of shape.columns) parameters.push(change.row.get(column.name) ?? null)
    return this.#add(shape, parameters, keyId(table, old), keyId(table, change.row, old))
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
    if (this.#open) {
      const note = this.#noting()
      if (note !== null) await this.#session.execute(note.sql)
      await this.#session.execute('commit')
      note?.done()
    }
    this.#open = false
    this.#sinceCommit = 0
    this.#options.onProgress?.(this.changes)
  }

  #noting(): { sql: string; done(): void } | null {
    if (this.last === null) return null
    const { place, at } = this.last
    return this.#options.noting({
      place,
      lsn: formatLsn(this.last.lsn),
      at: String(at),
      transactions: this.transactions,
      changes: this.changes,
      touched: [...this.touched],
    })
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

  readonly #shapes = new Map<TargetTable, Shape[]>()

  #shapeOf(table: TargetTable, operation: Operation, row: Tuple | null): Shape {
    let shapes = this.#shapes.get(table)
    if (shapes === undefined) {
      shapes = []
      this.#shapes.set(table, shapes)
    }
    for (const shape of shapes)
      if (shape.operation === operation && (row === null || writes(table, operation, row, shape.columns))) return shape
    const made: Shape = { table, operation, columns: row === null ? [] : this.#written(table, operation, row), statements: new Map() }
    shapes.push(made)
    return made
  }

  /** The columns of a row that are written, in the row's order. */
  #written(table: TargetTable, operation: Operation, row: Tuple): TargetColumn[] {
    const columns: TargetColumn[] = []
    for (const [name, value] of row) {
      const column = table.columns.get(name)
      if (column === undefined)
        throw new CaretakerError(
          'restore_mismatch',
          `The changes of ${table.label} speak of a column "${name}" that the full backup does not have${this.#where()}.`,
        )
      if (isWritten(column, operation, value)) columns.push(column)
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

  #add(shape: Shape, parameters: (string | null)[], id: string | null, other: string | null = null): Promise<void> | undefined {
    const { table } = shape
    const waiting = this.#batches.get(table)
    if (
      waiting !== undefined &&
      (waiting.shape !== shape || (id !== null && waiting.keys.has(id)) || (other !== null && waiting.keys.has(other)))
    )
      return this.#write(waiting).then(() => this.#add(shape, parameters, id, other))
    const batch = waiting ?? { shape, rows: [], keys: new Set(), bytes: 0 }
    if (waiting === undefined) this.#batches.set(table, batch)
    batch.rows.push(parameters)
    if (id !== null) batch.keys.add(id)
    if (other !== null) batch.keys.add(other)
    for (const value of parameters) {
      const bytes = value?.length ?? 0
      batch.bytes += bytes
      this.#waitingBytes += bytes
    }
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
    this.#batches.delete(batch.shape.table)
    this.#waitingBytes -= batch.bytes
    await this.#begin()
    await this.#session.execute('savepoint batch')
    try {
      await this.#writeRows(batch, batch.rows, sizes)
    } catch (error) {
      // A value that one row gives up and another takes: in one statement their order is not kept.
      if (!['23505', '23P01'].includes(sqlState(error) ?? '')) throw this.#refusal(batch.shape.table, error)
      await this.#session.execute('rollback to savepoint batch')
      await this.#writeRows(batch, batch.rows, [1]).catch((again: unknown) => {
        throw this.#refusal(batch.shape.table, again)
      })
    }
    await this.#session.execute('release savepoint batch')
  }

  async #writeRows(batch: Batch, rows: readonly (string | null)[][], allowed: readonly number[]): Promise<void> {
    const { table, operation, columns } = batch.shape
    const width = Math.max(1, rows[0]?.length ?? 1)
    for (let at = 0; at < rows.length; ) {
      const size = allowed.find((one) => one <= rows.length - at && one * width <= parametersOfStatement) ?? 1
      const count = columns.length === 0 && operation === 'insert' ? 1 : size
      const values: (string | null)[] = []
      for (let row = at; row < at + count; row++) values.push(...(rows[row] ?? []))
      const done = await this.#run(this.#statementOf(batch.shape, count), values)
      if (done !== count) throw this.#mismatch(table, `${count - done} of ${count} rows to ${operation} are not there`)
      at += count
    }
  }

  #statementOf(shape: Shape, rows: number): { name: string; text: string } {
    const known = shape.statements.get(rows)
    if (known !== undefined) return known
    const { table, operation, columns } = shape
    const text =
      operation === 'insert'
        ? insertSql(table, columns, rows)
        : operation === 'update'
          ? updateSql(table, columns, rows)
          : deleteSql(table, rows)
    const made = this.#prepared(text)
    shape.statements.set(rows, made)
    return made
  }

  #statements = 0

  #prepared(text: string): { name: string; text: string } {
    return { name: `caretaker_${this.#statements++}`, text }
  }

  async #run(statement: { name: string; text: string }, values: (string | null)[]): Promise<number> {
    const result = await this.#session.client.query({ ...statement, values })
    return result.rowCount ?? 0
  }

  async #wholeRow(table: TargetTable, kind: 'update' | 'delete', old: Tuple | null, row: Tuple | null): Promise<void> {
    if (old === null) throw this.#mismatch(table, `an ${kind} that names no row`)
    const waiting = this.#batches.get(table)
    if (waiting !== undefined) await this.#write(waiting)
    await this.#begin()
    this.#sinceCommit++
    // The log leaves null out of an old row.
    const all = [...table.columns.values()].filter((column) => !column.generated)
    const shape = this.#shapeOf(table, kind, row)
    if (row !== null && shape.columns.length === 0) return
    let statement = shape.statements.get(1)
    if (statement === undefined) {
      statement = this.#prepared(row === null ? deleteWholeRowSql(table, all) : updateWholeRowSql(table, all, shape.columns))
      shape.statements.set(1, statement)
    }
    let done: number
    try {
      done = await this.#run(statement, [...parametersOf(all, old), ...(row === null ? [] : parametersOf(shape.columns, row))])
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

/** Generated columns are PostgreSQL's; in an update so are identities that are always generated, and what is left as it was has no value. */
function isWritten(column: TargetColumn, operation: Operation, value: ColumnValue): boolean {
  return !column.generated && (operation === 'insert' || (!column.always && value !== undefined))
}

/** True when just these columns of the row are written, in this order. */
function writes(table: TargetTable, operation: Operation, row: Tuple, columns: readonly TargetColumn[]): boolean {
  let at = 0
  for (const [name, value] of row) {
    const column = table.columns.get(name)
    if (column === undefined) return false
    if (isWritten(column, operation, value) && columns[at++] !== column) return false
  }
  return at === columns.length
}

function parametersOf(columns: readonly TargetColumn[], row: Tuple): (string | null)[] {
  const parameters: (string | null)[] = []
  for (const column of columns) parameters.push(row.get(column.name) ?? null)
  return parameters
}

/** Tells the rows of a table apart by their key; where `row` leaves a column of it as it was, by that of `otherwise`. Null without a key. */
function keyId(table: TargetTable, row: Tuple, otherwise?: Tuple): string | null {
  const [only] = table.key
  if (only === undefined) return null
  if (table.key.length === 1) return row.get(only.name) ?? otherwise?.get(only.name) ?? null
  return JSON.stringify(table.key.map((column) => row.get(column.name) ?? otherwise?.get(column.name) ?? null))
}
