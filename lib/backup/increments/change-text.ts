/*
 * Reads what the output plugin test_decoding writes: one line of text a change, with names quoted as SQL quotes them and
 * values as literals. https://www.postgresql.org/docs/current/test-decoding.html
 */

export interface TableName {
  schema: string
  name: string
}

/** The value of a column as its type's output function wrote it; null; or `undefined` for one that the update left as it was. */
export type ColumnValue = string | null | undefined
export type Tuple = ReadonlyMap<string, ColumnValue>

export type Change =
  | { kind: 'begin'; transaction: bigint }
  | { kind: 'commit'; transaction: bigint; at: string }
  | { kind: 'insert'; table: TableName; row: Tuple }
  /** `old` is null where the key is the one in `row`. */
  | { kind: 'update'; table: TableName; old: Tuple | null; row: Tuple }
  /** `old` is null where the table has no replica identity: the log does not say which row it was. */
  | { kind: 'delete'; table: TableName; old: Tuple | null }
  | { kind: 'truncate'; tables: TableName[]; cascade: boolean; restartSequences: boolean }
  | { kind: 'message' }

/** @throws {SyntaxError} for text that the plugin does not write */
export function parseChange(text: string): Change {
  if (text.startsWith('BEGIN ')) return { kind: 'begin', transaction: BigInt(text.slice(6)) }
  if (text.startsWith('COMMIT ')) {
    const match = /^COMMIT (\d+) \(at (.+)\)$/.exec(text)
    if (match?.[1] === undefined || match[2] === undefined) throw new SyntaxError('a commit without its time')
    return { kind: 'commit', transaction: BigInt(match[1]), at: match[2] }
  }
  if (text.startsWith('message: ')) return { kind: 'message' }
  if (!text.startsWith('table ')) throw new SyntaxError(`an unknown kind of change: ${text.slice(0, 12)}`)
  return new ChangeReader(text).change()
}

/** What is needed to sort a change without reading its values: the beginning of its text is enough. */
export function readTarget(text: string): { tables: TableName[]; operation: string } {
  const reader = new ChangeReader(text)
  return { tables: reader.tableNames(), operation: reader.operation() }
}

class ChangeReader {
  readonly #text: string
  #at = 'table '.length

  constructor(text: string) {
    this.#text = text
  }

  change(): Change {
    const tables = this.tableNames()
    const operation = this.operation()
    const [table] = tables as [TableName]
    switch (operation) {
      case 'INSERT':
        return { kind: 'insert', table, row: this.#tuple() ?? fail('an insert without a row') }
      case 'UPDATE': {
        const old = this.#skip(' old-key:') ? this.#tuple() : null
        if (old !== null) this.#expect(' new-tuple:')
        return { kind: 'update', table, old, row: this.#tuple() ?? fail('an update without a row') }
      }
      case 'DELETE':
        return { kind: 'delete', table, old: this.#tuple() }
      case 'TRUNCATE': {
        const flags = this.#text.slice(this.#at)
        return { kind: 'truncate', tables, cascade: / cascade\b/.test(flags), restartSequences: / restart_seqs\b/.test(flags) }
      }
      default:
        return fail(`an unknown operation: ${operation}`)
    }
  }

  /** One, but for a TRUNCATE of several. */
  tableNames(): TableName[] {
    const tables: TableName[] = []
    do {
      const schema = this.#identifier()
      this.#expect('.')
      tables.push({ schema, name: this.#identifier() })
    } while (this.#skip(', '))
    return tables
  }

  operation(): string {
    this.#expect(': ')
    const end = this.#text.indexOf(':', this.#at)
    const word = this.#text.slice(this.#at, end)
    this.#at = end + 1
    return word
  }

  #tuple(): Tuple | null {
    if (this.#skip(' (no-tuple-data)')) return null
    const columns = new Map<string, ColumnValue>()
    while (this.#at < this.#text.length && this.#text[this.#at] === ' ' && !this.#text.startsWith(' new-tuple:', this.#at)) {
      this.#at++
      const name = this.#identifier()
      this.#typeName()
      columns.set(name, this.#value())
    }
    return columns
  }

  #identifier(): string {
    if (this.#text[this.#at] !== '"') {
      const from = this.#at
      while (isPlain(this.#text.charCodeAt(this.#at))) this.#at++
      if (this.#at === from) fail('a name was expected')
      return this.#text.slice(from, this.#at)
    }
    return this.#quoted('"')
  }

  /** From an opening quote past the closing one; a doubled one stands for itself. */
  #quoted(quote: string): string {
    let from = this.#at + 1
    let result = ''
    for (;;) {
      const end = this.#text.indexOf(quote, from)
      if (end < 0) fail('a quote is not closed')
      result += this.#text.slice(from, end)
      if (this.#text[end + 1] !== quote) {
        this.#at = end + 1
        return result
      }
      result += quote
      from = end + 2
    }
  }

  /** `[character varying]:`, where the type's own name may hold brackets in quotes or end in some. */
  #typeName(): void {
    this.#expect('[')
    for (;;) {
      const char = this.#text[this.#at]
      if (char === undefined) fail('a type is not closed')
      if (char === '"') this.#quoted('"')
      else if (char === ']' && this.#text[this.#at + 1] === ':') {
        this.#at += 2
        return
      } else this.#at++
    }
  }

  #value(): ColumnValue {
    if (this.#text[this.#at] === "'") return this.#quoted("'")
    if (this.#text.startsWith("B'", this.#at)) {
      this.#at++
      return this.#quoted("'")
    }
    const space = this.#text.indexOf(' ', this.#at)
    const end = space < 0 ? this.#text.length : space
    const word = this.#text.slice(this.#at, end)
    this.#at = end
    if (word === 'null') return null
    return word === 'unchanged-toast-datum' ? undefined : word
  }

  #skip(word: string): boolean {
    if (!this.#text.startsWith(word, this.#at)) return false
    this.#at += word.length
    return true
  }

  #expect(word: string): void {
    if (!this.#skip(word)) fail(`"${word}" was expected`)
  }
}

/** The characters of a name that needs no quotes. */
function isPlain(code: number): boolean {
  return (code >= 97 && code <= 122) || (code >= 48 && code <= 57) || code === 95
}

function fail(what: string): never {
  throw new SyntaxError(what)
}
