import { Transform, type TransformCallback } from 'node:stream'
import { nameOf } from '../table-name.ts'
import { readTarget, type TableName } from './change-text.ts'
import { CopyLines, splitLine, unescapeCopy } from './copy-lines.ts'
import { parseInstant } from './instant.ts'
import { fullTransactionId, lsn } from './position.ts'

/** What the changes of a table are worth. */
export interface ChangeRules {
  /** Left out of the increments, as it is of the backups. */
  drops(table: TableName): boolean
  /** The log says which row an update or delete means. */
  hasIdentity(table: TableName): boolean
}

export interface Gap extends TableName {
  /** Commit time of the first change that cannot be repeated, microseconds. */
  since: bigint
  changes: number
}

// Two names of 63 bytes, each of which may double in quotes and again by COPY, fit many times over.
const headBytes = 2_048
const [letterB, letterC, letterT] = [66, 67, 116]

/**
 * Passes the lines of a peek on, without what a backup does not hold, and notes what is in them. Transactions that are
 * empty then are left out too.
 */
export class ChangeFilter extends Transform {
  readonly #rules: ChangeRules
  readonly #reference: bigint
  readonly #lines = new CopyLines()
  #begin: Buffer | undefined
  #kept = 0
  readonly #openGaps = new Map<string, { table: TableName; changes: number }>()

  /** Rows that the server gave, kept or not. */
  rows = 0
  transactions = 0
  changes = 0
  /** End of the last commit record, kept or not. */
  lastCommit: { lsn: bigint; at: bigint } | null = null
  /** Of the transactions that were kept, microseconds. */
  maxCommitAt: bigint | null = null
  /** Of the transactions that were kept. */
  maxTransactionId: bigint | null = null
  readonly gaps = new Map<string, Gap>()

  /** `reference` is a whole transaction id of the time of the peek. */
  constructor(rules: ChangeRules, reference: bigint) {
    super({ readableHighWaterMark: 256 * 1024 })
    this.#rules = rules
    this.#reference = reference
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    try {
      const kept: Buffer[] = []
      for (const line of this.#lines.push(chunk)) this.#take(line, kept)
      if (kept.length > 0) this.push(Buffer.concat(kept))
      done()
    } catch (error) {
      done(error as Error)
    }
  }

  override _flush(done: TransformCallback): void {
    done(this.#lines.open || this.#begin !== undefined || this.#kept > 0 ? new Error('the changes end inside a transaction') : null)
  }

  #take(line: Buffer, kept: Buffer[]): void {
    this.rows++
    const { lsn: position, data } = splitLine(line)
    switch (data[0]) {
      case letterB:
        this.#begin = line
        return
      case letterC:
        this.#commit(line, position, data, kept)
        return
      case letterT:
        this.#change(line, data, kept)
        return
      default:
        // A message of ours, or of somebody else: not a row.
        return
    }
  }

  #change(line: Buffer, data: Buffer, kept: Buffer[]): void {
    const { tables, operation } = targetOf(data)
    if (tables.every((table) => this.#rules.drops(table))) return
    if (this.#begin !== undefined) {
      kept.push(this.#begin, newline)
      this.#begin = undefined
    }
    kept.push(line, newline)
    this.#kept++
    const [table] = tables
    if (table !== undefined && (operation === 'UPDATE' || operation === 'DELETE') && !this.#rules.hasIdentity(table)) {
      const key = nameOf(table)
      const gap = this.#openGaps.get(key) ?? { table, changes: 0 }
      gap.changes++
      this.#openGaps.set(key, gap)
    }
  }

  #commit(line: Buffer, position: string, data: Buffer, kept: Buffer[]): void {
    const match = /^COMMIT (\d+) \(at (.+)\)$/.exec(data.toString('latin1'))
    const at = match?.[2] === undefined ? undefined : parseInstant(match[2])
    if (at === undefined || match?.[1] === undefined) throw new SyntaxError('a commit without its time')
    this.lastCommit = { lsn: lsn(position), at }
    if (this.#kept > 0) {
      kept.push(line, newline)
      this.transactions++
      this.changes += this.#kept
      if (this.maxCommitAt === null || at > this.maxCommitAt) this.maxCommitAt = at
      const id = fullTransactionId(BigInt(match[1]), this.#reference)
      if (this.maxTransactionId === null || id > this.maxTransactionId) this.maxTransactionId = id
      for (const [key, { table, changes }] of this.#openGaps) {
        const gap = this.gaps.get(key) ?? { ...table, since: at, changes: 0 }
        gap.changes += changes
        this.gaps.set(key, gap)
      }
    }
    this.#openGaps.clear()
    this.#begin = undefined
    this.#kept = 0
  }
}

function targetOf(data: Buffer): ReturnType<typeof readTarget> {
  try {
    return readTarget(unescapeCopy(data.toString('utf8', 0, headBytes)))
  } catch (error) {
    // A TRUNCATE may name more tables than fit.
    if (data.length <= headBytes) throw error
    return readTarget(unescapeCopy(data.toString('utf8')))
  }
}

const newline = Buffer.from('\n')
