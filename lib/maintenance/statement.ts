/** SQL text cut into what its lexer sees: only as much as is needed to find where a statement or a parenthesis ends. */
export interface Lexed {
  /** Words outside of quotes and comments, in lower case. */
  words: string[]
  /** Offsets of semicolons outside of quotes and comments. */
  semicolons: number[]
  /** How many parentheses are open at the end; negative when one was closed too often on the way. */
  depth: number
  /** `$1`, `$2`: parameters, which a policy has no way to fill. */
  parameters: string[]
  /** `:from`, `:to`: what reports fill in, by name, with where they stand. Not casts (`::`), `:=` and slices (`[a:b]`). */
  named: { name: string; start: number; end: number }[]
  /** What was left open at the end of the text: a quote or a comment. */
  unterminated: 'string' | 'identifier' | 'comment' | 'dollar quote' | null
}

const word = /[A-Za-z_\u0080-\uffff][\w$\u0080-\uffff]*/y
const dollarTag = /\$(?:[A-Za-z_\u0080-\uffff][\w\u0080-\uffff]*)?\$/y

/**
 * Reads `sql` as PostgreSQL's lexer does: strings with doubled quotes, E'' strings with backslashes, quoted identifiers,
 * dollar quotes, line comments and nested block comments.
 */
export function lex(sql: string): Lexed {
  const lexed: Lexed = { words: [], semicolons: [], depth: 0, parameters: [], named: [], unterminated: null }
  let low = 0
  let brackets = 0
  let i = 0
  while (i < sql.length) {
    const c = sql[i] as string
    const two = sql.slice(i, i + 2)
    if (two === '--') {
      const end = sql.indexOf('\n', i)
      i = end < 0 ? sql.length : end + 1
    } else if (two === '/*') {
      const end = blockCommentEnd(sql, i)
      if (end < 0) return { ...lexed, unterminated: 'comment' }
      i = end
    } else if (c === "'" || c === '"') {
      const escapes = c === "'" && /[eE]/.test(sql[i - 1] ?? '') && !/[\w$]/.test(sql[i - 2] ?? '')
      const end = quoteEnd(sql, i, c, escapes)
      if (end < 0) return { ...lexed, unterminated: c === "'" ? 'string' : 'identifier' }
      i = end
    } else if (c === '$') {
      dollarTag.lastIndex = i
      const tag = dollarTag.exec(sql)?.[0]
      if (tag !== undefined) {
        const end = sql.indexOf(tag, i + tag.length)
        if (end < 0) return { ...lexed, unterminated: 'dollar quote' }
        i = end + tag.length
      } else {
        const parameter = /^\$\d+/.exec(sql.slice(i, i + 8))?.[0]
        if (parameter !== undefined) lexed.parameters.push(parameter)
        i += parameter?.length ?? 1
      }
    } else if (c === ':') {
      word.lastIndex = i + 1
      const name = sql[i + 1] === ':' || brackets > 0 ? undefined : word.exec(sql)?.[0]
      if (name !== undefined) lexed.named.push({ name, start: i, end: i + 1 + name.length })
      i += name === undefined ? (sql[i + 1] === ':' ? 2 : 1) : 1 + name.length
    } else {
      word.lastIndex = i
      const found = word.exec(sql)?.[0]
      if (found !== undefined) {
        lexed.words.push(found.toLowerCase())
        i += found.length
        continue
      }
      if (c === ';') lexed.semicolons.push(i)
      if (c === '(') lexed.depth++
      if (c === ')') lexed.depth--
      if (c === '[') brackets++
      if (c === ']') brackets--
      low = Math.min(low, lexed.depth)
      i++
    }
  }
  return { ...lexed, depth: low < 0 ? low : lexed.depth }
}

/**
 * A statement's text without the values in it: strings and numbers become "?", comments go, and so does what follows a
 * quote that is never closed. What is left says what the statement does, and nothing about anybody.
 */
export function withoutLiterals(sql: string): string {
  let out = ''
  let i = 0
  while (i < sql.length) {
    const c = sql[i] as string
    const two = sql.slice(i, i + 2)
    if (two === '--') {
      const end = sql.indexOf('\n', i)
      i = end < 0 ? sql.length : end
    } else if (two === '/*') {
      const end = blockCommentEnd(sql, i)
      i = end < 0 ? sql.length : end
      out += ' '
    } else if (c === "'" || c === '"') {
      const prefix = c === "'" ? /(?<![\w$])(?:[eEbBxXnN]|[uU]&)$/.exec(out)?.[0] : undefined
      const end = quoteEnd(sql, i, c, prefix?.toLowerCase() === 'e')
      if (prefix !== undefined) out = out.slice(0, -prefix.length)
      out += c === '"' && end > 0 ? sql.slice(i, end) : '?'
      i = end < 0 ? sql.length : end
    } else if (c === '$') {
      dollarTag.lastIndex = i
      const tag = dollarTag.exec(sql)?.[0]
      const parameter = tag === undefined ? /^\$\d+/.exec(sql.slice(i, i + 8))?.[0] : undefined
      const end = tag === undefined ? -1 : sql.indexOf(tag, i + tag.length)
      out += tag === undefined ? (parameter ?? c) : '?'
      i = tag === undefined ? i + (parameter?.length ?? 1) : end < 0 ? sql.length : end + tag.length
    } else if (/[0-9]/.test(c) || (c === '.' && /[0-9]/.test(sql[i + 1] ?? ''))) {
      const number = /^(?:0[xX][\da-fA-F_]+|[\d_]*\.?[\d_]+(?:\.(?![.]))?(?:[eE][+-]?\d+)?)/.exec(sql.slice(i, i + 100))?.[0] ?? c
      out += '?'
      i += number.length
    } else {
      word.lastIndex = i
      const found = word.exec(sql)?.[0] ?? c
      out += found
      i += found.length
    }
  }
  return out
    .replace(/\s+/g, ' ')
    .replace(/((?:\$\d+|\?)(?: ?:: ?\w+)?)(?: ?, ?(?:\$\d+|\?)(?: ?:: ?\w+)?){2,}/g, '$1, …')
    .trim()
}

function quoteEnd(sql: string, start: number, quote: string, escapes: boolean): number {
  for (let i = start + 1; i < sql.length; i++) {
    if (escapes && sql[i] === '\\') i++
    else if (sql[i] === quote) {
      if (sql[i + 1] !== quote) return i + 1
      i++
    }
  }
  return -1
}

function blockCommentEnd(sql: string, start: number): number {
  let depth = 0
  for (let i = start; i < sql.length; i++) {
    const two = sql.slice(i, i + 2)
    if (two === '/*') {
      depth++
      i++
    } else if (two === '*/') {
      depth--
      i++
      if (depth === 0) return i + 1
    }
  }
  return -1
}

/** What is wrong with `where` as one condition that is put between parentheses; undefined when nothing is. */
export function conditionProblem(where: string): string | undefined {
  const lexed = lex(where)
  if (lexed.unterminated !== null) return `has an unterminated ${lexed.unterminated}`
  if (lexed.semicolons.length > 0) return 'holds a semicolon; expected one condition, not statements'
  if (lexed.depth !== 0) return 'has unbalanced parentheses'
  if (lexed.parameters.length > 0) return `holds the parameter ${lexed.parameters[0]}; expected a condition without parameters`
  if (where.trim() === '') return 'is empty; expected a condition such as "expires_at < now()"'
  return undefined
}
