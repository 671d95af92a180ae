import type { JobStep, RetentionRule } from '../../config/index.ts'
import { conjuncts, readCondition } from './predicates.ts'
import { cut, findWord, readName, type Statement, sameTokens, says, splitCommand, type Token } from './tokens.ts'

/** A rule without the name by which the job will call it. */
export type Rule = Omit<RetentionRule, 'name'>

type Step = JobStep | { rule: Rule }

export interface Translation {
  /** In the order of the command. */
  steps: Step[]
  /** What the reader must know: what never worked, what is done another way, what is left to do by hand. */
  warnings: string[]
}

/**
 * What a pg_cron command does, as steps of a job. What is not recognised becomes a step `sql` as it was written.
 * @param tables every table of the database, for commands that name none
 */
export function translateCommand(command: string, tables: readonly string[]): Translation {
  const found: Translation = { steps: [], warnings: [] }
  const secret = /\bBearer\s+[\w.~+/=-]{12,}|\beyJ[\w-]{10,}\.|\b(sk|rk|sbp|whsec)_[\w-]{8,}|\bservice_role\b|\bpassword=\S/i.exec(command)
  if (secret !== null) {
    found.warnings.push(
      'it holds what looks like a key, which is not repeated here: make it a step `call`, or a function of the policy that takes the key from the environment',
    )
    return found
  }
  const statements = unwrap(splitCommand(command), found)
  if (statements.length > 1 && statements.some(({ tokens }) => says(tokens, 0, 'vacuum')))
    found.warnings.push('VACUUM cannot run in a string of several statements, which is one transaction: it has never run')
  if (statements.length > 1 && statements.some(({ tokens }) => isConcurrent(tokens)))
    found.warnings.push('CONCURRENTLY cannot run in a string of several statements, which is one transaction: it has never run')
  for (let at = 0; at < statements.length; at++) {
    const statement = statements[at] as Statement
    const archive = readArchive(statement, statements[at + 1])
    if (archive === null) found.steps.push(...translate(statement, tables, found.warnings))
    else {
      found.steps.push({ rule: archive.rule })
      found.warnings.push(...archive.warnings)
      if (archive.both) at++
    }
  }
  warnOfSurroundings(command, found)
  return found
}

/** Transactions and blocks around statements are taken off; a block that is no SQL is named. */
function unwrap(statements: Statement[], found: Translation): Statement[] {
  const [first] = statements
  if (first === undefined) return []
  if (says(first.tokens, 0, 'do')) return statements.length === 1 ? unwrapDo(first, found) : statements
  const isEnd = ({ tokens }: Statement) => tokens.length <= 2 && (says(tokens, 0, 'end') || says(tokens, 0, 'commit'))
  if (!says(first.tokens, 0, 'begin') && !says(first.tokens, 0, 'start', 'transaction')) return statements.filter((one) => !isEnd(one))
  const opens =
    first.tokens.length === 1 || says(first.tokens, 0, 'start') || says(first.tokens, 1, 'transaction') || says(first.tokens, 1, 'work')
  let inner = opens ? statements.slice(1) : [cut(first, 1), ...statements.slice(1)]
  const last = inner.at(-1)
  if (last !== undefined && isEnd(last)) inner = inner.slice(0, -1)
  else if (last !== undefined && says(last.tokens, last.tokens.length - 1, 'end') && findWord(last.tokens, 'case') < 0)
    inner = [...inner.slice(0, -1), cut(last, 0, last.tokens.length - 1)]
  found.warnings.push(
    opens
      ? 'its statements were one transaction; as steps each is one'
      : 'BEGIN … END without semicolons is PL/pgSQL and no SQL: PostgreSQL has refused it at every run',
  )
  return inner
}

const control = /^(declare|if|loop|for|foreach|while|perform|execute|raise|return|exception|into|case)$/

/** A DO block without variables and control is its statements; any other stays whole. */
function unwrapDo(statement: Statement, found: Translation): Statement[] {
  const body = statement.tokens.find(({ kind }) => kind === 'string')?.text ?? ''
  const inner = splitCommand(body)
  const words = inner.flatMap(({ tokens }) => tokens)
  if (words.some((token) => says([token], 0, 'vacuum'))) found.warnings.push('VACUUM cannot run in a DO block: it has never run')
  const simple = inner[0] !== undefined && says(inner[0].tokens, 0, 'begin')
  if (!simple || words.some(({ kind, text }) => (kind === 'word' && control.test(text)) || text === ':')) {
    if (words.some((token) => says([token], 0, 'commit') || says([token], 0, 'rollback')))
      found.warnings.push('it commits within its DO block, which a step cannot: make it a function of the policy')
    return [statement]
  }
  const [first, ...rest] = inner as [Statement, ...Statement[]]
  const statements = [...(first.tokens.length > 1 ? [cut(first, 1)] : []), ...rest]
  return statements.filter(({ tokens }) => !(says(tokens, 0, 'end') && tokens.length <= 2))
}

function isConcurrent(tokens: readonly Token[]): boolean {
  const concurrently = findWord(tokens, 'concurrently') >= 0
  return concurrently && (says(tokens, 0, 'reindex') || says(tokens, 0, 'create') || says(tokens, 0, 'drop'))
}

/** One statement as steps; what is to be known of it goes into `warnings`. */
function translate(statement: Statement, tables: readonly string[], warnings: string[]): Step[] {
  const { tokens, sql } = statement
  switch (tokens[0]?.kind === 'word' ? tokens[0].text : '') {
    case 'vacuum':
      return translateVacuum(statement, tables, warnings)
    case 'analyze':
    case 'analyse': {
      const from = says(tokens, 1, 'verbose') ? 2 : 1
      const named = readNames(tokens, from)
      if (from === tokens.length) return [{ analyze: 'all' }]
      return named.length > 0 ? [{ analyze: named }] : leftOut(sql, 'name the tables', warnings)
    }
    case 'reindex':
      return translateReindex(statement, warnings)
    case 'refresh': {
      const name = readName(tokens, says(tokens, 3, 'concurrently') ? 4 : 3)
      return name === null || findWord(tokens, 'no') >= 0 ? [{ sql }] : [{ refresh: [name.name] }]
    }
    case 'delete':
      return translateDelete(statement, warnings)
    case 'update':
      return translateUpdate(statement)
    case 'set':
    case 'reset':
      return leftOut(sql, 'it is a setting of a session, which steps do not share; put it on the role or the function', warnings)
    case 'begin':
    case 'commit':
    case 'rollback':
    case 'savepoint':
      return leftOut(sql, 'each step is a transaction', warnings)
    case 'copy':
      return leftOut(sql, 'a step has no file of the server; make it a report or a function of the policy', warnings)
    case 'call':
      warnings.push(`"${shortened(sql)}": a procedure that commits fails in a step, which is one transaction; a function does not`)
      return [{ sql }]
    default:
      return isConcurrent(tokens) ? leftOut(sql, 'it cannot run in a transaction, and a step is one; run it by hand', warnings) : [{ sql }]
  }
}

function leftOut(sql: string, why: string, warnings: string[]): Step[] {
  warnings.push(`left out: "${shortened(sql)}": ${why}`)
  return []
}

function translateVacuum({ tokens, sql }: Statement, tables: readonly string[], warnings: string[]): Step[] {
  let at = says(tokens, 1, '(') ? closing(tokens, 1) + 1 : 1
  while (['full', 'freeze', 'verbose', 'analyze', 'analyse'].some((word) => says(tokens, at, word))) at++
  if (tokens.slice(0, at).some((token) => says([token], 0, 'full')))
    warnings.push(
      'VACUUM FULL locks everybody out of the table: `vacuum` makes its room free for new rows without that, and does not give it back',
    )
  if (at < tokens.length) {
    const named = readNames(tokens, at)
    return named.length > 0 ? [{ vacuum: named }] : leftOut(sql, 'name the tables', warnings)
  }
  warnings.push('VACUUM named no table: these are the tables there are now')
  return tables.length > 0 ? [{ vacuum: [...tables] }] : []
}

function translateReindex({ tokens, sql }: Statement, warnings: string[]): Step[] {
  let at = says(tokens, 1, '(') ? closing(tokens, 1) + 1 : 1
  const kind = tokens[at]?.text
  if (says(tokens, at + 1, 'concurrently')) at++
  else warnings.push('REINDEX kept writers waiting: `reindex` is CONCURRENTLY')
  const name = readName(tokens, at + 1)
  if (name !== null && kind === 'index') return [{ reindex: [name.name] }]
  if (name !== null && kind === 'table') return [{ reindex: [{ table: name.name }] }]
  return leftOut(sql, 'name the tables or indexes that need it', warnings)
}

function translateDelete(statement: Statement, warnings: string[]): Step[] {
  const { tokens, sql } = statement
  const table = says(tokens, 1, 'from') ? readName(tokens, 2) : null
  if (table?.name === 'cron.job_run_details')
    return leftOut(sql, "pg_cron's own history is no longer written; Caretaker's is pruned by the job housekeeping", warnings)
  if (table === null || !says(tokens, table.next, 'where') || findWord(tokens, 'returning') >= 0) {
    if (table !== null && tokens.length === table.next) warnings.push(`"${shortened(sql)}" empties the table in one statement`)
    return [{ sql }]
  }
  const { note, ...condition } = readCondition(conjuncts(cut(statement, table.next + 1)))
  if (note !== undefined) warnings.push(`${table.name}: ${note}`)
  return [{ rule: { table: table.name, ...condition, action: 'purge' } }]
}

/** An update that empties columns of old rows is a rule; one that means something to the app stays SQL. */
function translateUpdate(statement: Statement): Step[] {
  const { tokens, sql } = statement
  const table = readName(tokens, 1)
  const where = findWord(tokens, 'where')
  if (table === null || !says(tokens, table.next, 'set') || where < 0) return [{ sql }]
  const rule = readAnonymise(statement, table.name, table.next + 1, where)
  return rule === null ? [{ sql }] : [{ rule }]
}

function readAnonymise(statement: Statement, table: string, from: number, where: number): Rule | null {
  const { tokens } = statement
  const values: Record<string, string | number | boolean | null> = {}
  for (let at = from; at < where; at += 4) {
    const column = tokens[at]
    const value = tokens[at + 2]
    if (column === undefined || value === undefined || !says(tokens, at + 1, '=') || (at + 3 < where && !says(tokens, at + 3, ',')))
      return null
    const literal = literalOf(value)
    if (literal === undefined) return null
    values[column.text] = literal
  }
  const parts = conjuncts(cut(statement, where + 1))
  const mark = Object.keys(values).find((column) => values[column] === true && parts.some((part) => isUnmarked(part.tokens, column)))
  const emptied = Object.entries(values).filter(([column]) => column !== mark)
  const empties = emptied.every(([, value]) => value === null || /anonym|redact|deleted|removed/i.test(String(value)))
  if (emptied.length === 0 || (mark === undefined && !empties)) return null
  const { note: _note, ...condition } = readCondition(parts.filter((part) => mark === undefined || !isUnmarked(part.tokens, mark)))
  if (condition.olderThan === undefined) return null
  return {
    table,
    ...condition,
    action: { anonymise: Object.fromEntries(emptied) },
    ...(mark === undefined ? {} : { mark }),
  }
}

function literalOf({ kind, text }: Token): string | number | boolean | null | undefined {
  if (kind === 'string') return text
  if (kind === 'number') return Number(text)
  return kind === 'word' ? { true: true, false: false, null: null }[text] : undefined
}

/** `mark = false`, `not mark`, `mark is not true`, `mark is distinct from true`, `mark is null`. */
function isUnmarked(tokens: readonly Token[], mark: string): boolean {
  return [
    [mark, '=', 'false'],
    ['not', mark],
    [mark, 'is', 'not', 'true'],
    [mark, 'is', 'false'],
    [mark, 'is', 'distinct', 'from', 'true'],
    [mark, 'is', 'null'],
  ].some((words) => words.length === tokens.length && says(tokens, 0, ...words))
}

/** Moving rows: by two statements with the same condition, or by one that deletes and inserts. */
function readArchive(first: Statement, second: Statement | undefined): { rule: Rule; warnings: string[]; both: boolean } | null {
  if (says(first.tokens, 0, 'with')) return readMove(first)
  if (!says(first.tokens, 0, 'insert', 'into') || second === undefined || !says(second.tokens, 0, 'delete', 'from')) return null
  const target = readName(first.tokens, 2)
  const from = findWord(first.tokens, 'from')
  const source = from < 0 ? null : readName(first.tokens, from + 1)
  const deleted = readName(second.tokens, 2)
  if (target === null || source === null || deleted === null || source.name !== deleted.name) return null
  if (!says(first.tokens, source.next, 'where') || !says(second.tokens, deleted.next, 'where')) return null
  const conflict = findWord(first.tokens, 'on', source.next)
  const condition = cut(second, deleted.next + 1)
  if (!sameTokens(cut(first, source.next + 1, conflict < 0 ? undefined : conflict).tokens, condition.tokens)) return null
  const select = findWord(first.tokens, 'select')
  const { note, ...read } = readCondition(conjuncts(condition))
  return {
    rule: { table: source.name, ...read, action: { archiveTo: target.name } },
    both: true,
    warnings: [
      `INSERT and then DELETE with one condition loses what comes to fit between the two, and moves twice what two runs see: the rule moves each row of ${source.name} once`,
      ...(says(first.tokens, select + 1, '*', 'from')
        ? []
        : [`the archive took chosen columns of ${source.name}: the rule moves all, by their names`]),
      ...(note === undefined ? [] : [`${source.name}: ${note}`]),
    ],
  }
}

function readMove(statement: Statement): { rule: Rule; warnings: string[]; both: boolean } | null {
  const { tokens } = statement
  // with NAME as ( delete from TABLE where … returning * ) insert into TARGET select * from NAME
  if (!says(tokens, 2, 'as', '(', 'delete', 'from')) return null
  const source = readName(tokens, 6)
  const close = closing(tokens, 3)
  const target = says(tokens, close + 1, 'insert', 'into') ? readName(tokens, close + 3) : null
  if (source === null || target === null || !says(tokens, source.next, 'where') || !says(tokens, close - 2, 'returning', '*')) return null
  if (!says(tokens, target.next, 'select', '*', 'from') || target.next + 4 !== tokens.length) return null
  const { note, ...condition } = readCondition(conjuncts(cut(statement, source.next + 1, close - 2)))
  return {
    rule: { table: source.name, ...condition, action: { archiveTo: target.name } },
    warnings: note === undefined ? [] : [`${source.name}: ${note}`],
    both: false,
  }
}

/** Names separated by commas, with lists of columns left out. */
function readNames(tokens: readonly Token[], from: number): string[] {
  const names: string[] = []
  for (let at = from; at < tokens.length; ) {
    const name = readName(tokens, at)
    if (name === null) return names
    names.push(name.name)
    at = says(tokens, name.next, '(') ? closing(tokens, name.next) + 1 : name.next
    if (!says(tokens, at, ',')) return names
    at++
  }
  return names
}

/** Where the parenthesis at `open` is closed. */
function closing(tokens: readonly Token[], open: number): number {
  let depth = 0
  for (let at = open; at < tokens.length; at++) {
    if (says(tokens, at, '(')) depth++
    if (says(tokens, at, ')') && --depth === 0) return at
  }
  return tokens.length - 1
}

function warnOfSurroundings(command: string, { steps, warnings }: Translation): void {
  if (!steps.some((step) => 'sql' in step || ('rule' in step && step.rule.where !== undefined))) return
  if (/\bdblink/i.test(command)) warnings.push('dblink: it connects from the database, as before; no checkpoint covers what it does there')
  if (/\b(current_user|session_user|current_role)\b/i.test(command))
    warnings.push("it asks who is at work: that is now the role of Caretaker's connection")
  if (/\bnet\.http_/i.test(command))
    warnings.push('net.http_… only queues a call, and nobody hears of its failure: a step `call` is signed and tried again')
  if (/\bcron\.(schedule|unschedule|alter_job)/i.test(command)) warnings.push('it changes pg_cron itself, which no longer runs these jobs')
}

function shortened(sql: string): string {
  const line = sql.replaceAll(/\s+/g, ' ')
  return line.length > 60 ? `${line.slice(0, 57)}…` : line
}
