/*
 * Cuts a script into statements as psql does: quotes, dollar quotes, comments, parentheses and the bodies of SQL-standard
 * functions (`begin atomic … end`) may hold semicolons of their own.
 */

export interface Statement {
  sql: string
  /** The object's entry in pg_dump's comments, such as "INDEX": undefined before the first. */
  type?: string
  name?: string
  /** "-" for what is in none. */
  schema?: string
  owner?: string
}

const entry = /^-- Name: (.*); Type: ([A-Z ]+); Schema: (.*); Owner: ?(.*?)(?:; Tablespace: .*)?$/
const word = /[A-Za-z_\u0080-\uffff]/
const wordRest = /[A-Za-z0-9_$\u0080-\uffff]/

/**
 * The statements of a script that pg_dump wrote, without comments between them and without psql's \restrict lines for
 * `restrictKey`. Any other backslash command outside of quotes is an error: nothing here runs psql.
 */
export function splitStatements(script: string, restrictKey?: string): Statement[] {
  const statements: Statement[] = []
  let start = -1
  let depth = 0
  let at = 0
  let words: string[] = []
  let bodies = 0
  let current: Omit<Statement, 'sql'> | undefined

  const begin = () => {
    if (start < 0) start = at
  }
  const finish = (end: number) => {
    if (start >= 0) {
      const sql = script.slice(start, end).trim()
      if (sql !== '') statements.push({ sql, ...current })
    }
    start = -1
    depth = 0
    bodies = 0
    words = []
  }

  while (at < script.length) {
    const char = script[at] as string
    const next = script[at + 1]
    if (char === '-' && next === '-') {
      const end = lineEnd(script, at)
      if (start < 0) {
        const match = entry.exec(script.slice(at, end))
        if (match !== null)
          current = { name: match[1] as string, type: match[2] as string, schema: match[3] as string, owner: match[4] as string }
      }
      at = end
    } else if (char === '/' && next === '*') {
      at = skipBlockComment(script, at)
    } else if (char === "'") {
      begin()
      const escapes = /[eE]/.test(script[at - 1] ?? '') && !wordRest.test(script[at - 2] ?? '')
      at = skipQuoted(script, at, "'", escapes)
    } else if (char === '"') {
      begin()
      at = skipQuoted(script, at, '"', false)
    } else if (char === '$' && !wordRest.test(script[at - 1] ?? '')) {
      begin()
      const tag = /^\$([A-Za-z_\u0080-\uffff][A-Za-z0-9_\u0080-\uffff]*)?\$/.exec(script.slice(at, at + 130))?.[0]
      if (tag === undefined) at++
      else {
        const end = script.indexOf(tag, at + tag.length)
        if (end < 0) throw new Error('a dollar-quoted string does not end')
        at = end + tag.length
      }
    } else if (char === '(') {
      begin()
      depth++
      at++
    } else if (char === ')') {
      depth = Math.max(0, depth - 1)
      at++
    } else if (char === ';' && depth === 0 && bodies === 0) {
      at++
      finish(at)
    } else if (char === '\\' && start < 0) {
      const end = lineEnd(script, at)
      const line = script.slice(at, end)
      if (restrictKey === undefined || (line !== `\\restrict ${restrictKey}` && line !== `\\unrestrict ${restrictKey}`))
        throw new Error('a psql command stands in the script')
      at = end
    } else if (word.test(char)) {
      begin()
      let end = at + 1
      while (end < script.length && wordRest.test(script[end] as string)) end++
      const token = script.slice(at, end).toLowerCase()
      if (words.length < 4) words.push(token)
      // As psql: only CREATE [OR REPLACE] FUNCTION or PROCEDURE has a body whose BEGIN, CASE and END are counted.
      if (depth === 0 && createsRoutine(words)) {
        if (token === 'begin' || (token === 'case' && bodies > 0)) bodies++
        else if (token === 'end' && bodies > 0) bodies--
      }
      at = end
    } else {
      if (!/\s/.test(char)) begin()
      at++
    }
  }
  finish(script.length)
  return statements
}

function createsRoutine(words: readonly string[]): boolean {
  const [first, second, third, fourth] = words
  if (first !== 'create') return false
  const kind = second === 'or' && third === 'replace' ? fourth : second
  return kind === 'function' || kind === 'procedure'
}

function lineEnd(script: string, from: number): number {
  const end = script.indexOf('\n', from)
  return end < 0 ? script.length : end
}

function skipBlockComment(script: string, from: number): number {
  let depth = 1
  let at = from + 2
  while (depth > 0) {
    if (at >= script.length) throw new Error('a comment does not end')
    if (script.startsWith('/*', at)) {
      depth++
      at += 2
    } else if (script.startsWith('*/', at)) {
      depth--
      at += 2
    } else at++
  }
  return at
}

function skipQuoted(script: string, from: number, quote: string, escapes: boolean): number {
  let at = from + 1
  for (;;) {
    if (at >= script.length) throw new Error('a quoted string does not end')
    if (escapes && script[at] === '\\') at += 2
    else if (script[at] !== quote) at++
    else if (script[at + 1] === quote) at += 2
    else return at + 1
  }
}
