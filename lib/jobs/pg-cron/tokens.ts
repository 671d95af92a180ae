/*
 * As much of SQL's grammar as is needed to tell statements apart and to recognise the usual ones. What is not recognised
 * stays as it was written.
 */

export interface Token {
  kind: 'word' | 'quoted' | 'string' | 'number' | 'sign'
  /** Words in lower case; strings and quoted names without their quotes; signs as they are. */
  text: string
  /** As it was written. */
  raw: string
  /** Whether space or a comment stands before it. */
  apart: boolean
}

export interface Statement {
  tokens: Token[]
  /** As it was written, but without comments and on one line: a comment at its end would swallow what follows. */
  sql: string
}

function statementOf(tokens: Token[]): Statement {
  return { tokens, sql: tokens.map(({ raw, apart }, index) => (apart && index > 0 ? ` ${raw}` : raw)).join('') }
}

const patterns: readonly [Token['kind'] | 'space', RegExp][] = [
  ['space', /\s+|--[^\n]*/y],
  ['string', /[eE]'(?:[^'\\]|\\.|'')*'/sy],
  ['string', /(?:[uU]&|[bBxX])?'(?:[^']|'')*'/y],
  ['quoted', /"(?:[^"]|"")*"/y],
  ['number', /\d+(?:\.\d+)?/y],
  ['word', /[A-Za-z_\u0080-\uffff][\w$\u0080-\uffff]*/y],
  ['sign', /::|<=|>=|<>|!=|\|\||[^\s]/y],
]

/** The tokens of `sql`, comments left out. */
function tokenise(sql: string): Token[] {
  const tokens: Token[] = []
  let apart = false
  for (let at = 0; at < sql.length; ) {
    const found = tokenAt(sql, at)
    if (found.token !== undefined) tokens.push({ ...found.token, raw: sql.slice(at, found.end), apart })
    apart = found.token === undefined
    at = found.end
  }
  return tokens
}

function tokenAt(sql: string, at: number): { token?: Pick<Token, 'kind' | 'text'>; end: number } {
  if (sql.startsWith('/*', at)) return { end: endOfBlockComment(sql, at) }
  const tag = /^\$(?:[A-Za-z_]\w*)?\$/.exec(sql.slice(at, at + 66))?.[0]
  if (tag !== undefined) {
    const close = sql.indexOf(tag, at + tag.length)
    const end = close < 0 ? sql.length : close
    return { token: { kind: 'string', text: sql.slice(at + tag.length, end) }, end: Math.min(sql.length, end + tag.length) }
  }
  for (const [kind, pattern] of patterns) {
    pattern.lastIndex = at
    const text = pattern.exec(sql)?.[0]
    if (text === undefined) continue
    const end = at + text.length
    return kind === 'space' ? { end } : { token: { kind, text: meaning(kind, text) }, end }
  }
  return { end: at + 1 }
}

function meaning(kind: Token['kind'], text: string): string {
  if (kind === 'word') return text.toLowerCase()
  if (kind === 'quoted') return text.slice(1, -1).replaceAll('""', '"')
  if (kind === 'string') return text.slice(text.indexOf("'") + 1, -1).replaceAll("''", "'")
  return text
}

/** PostgreSQL's block comments nest. */
function endOfBlockComment(sql: string, at: number): number {
  let depth = 1
  let end = at + 2
  while (end < sql.length && depth > 0) {
    const opens = sql.startsWith('/*', end)
    const closes = sql.startsWith('*/', end)
    depth += opens ? 1 : closes ? -1 : 0
    end += opens || closes ? 2 : 1
  }
  return end
}

/** The statements of a command, split at semicolons outside of strings, comments and parentheses. */
export function splitCommand(sql: string): Statement[] {
  const statements: Statement[] = []
  let tokens: Token[] = []
  let depth = 0
  const finish = () => {
    if (tokens.length > 0) statements.push(statementOf(tokens))
    tokens = []
    depth = 0
  }
  for (const token of tokenise(sql)) {
    if (token.kind === 'sign') depth += '(['.includes(token.text) ? 1 : ')]'.includes(token.text) ? -1 : 0
    if (token.kind === 'sign' && token.text === ';' && depth <= 0) finish()
    else tokens.push(token)
  }
  finish()
  return statements
}

/** A statement without its first tokens, and perhaps without its last. */
export function cut({ tokens }: Statement, from: number, to = tokens.length): Statement {
  return statementOf(tokens.slice(from, to))
}

/** Whether the tokens from `at` on are these words or signs. */
export function says(tokens: readonly Token[], at: number, ...texts: string[]): boolean {
  return texts.every((text, index) => {
    const token = tokens[at + index]
    return token !== undefined && token.kind !== 'string' && token.kind !== 'quoted' && token.text === text
  })
}

/** Where a word stands outside of parentheses, from `from` on; -1 where it does not. */
export function findWord(tokens: readonly Token[], word: string, from = 0): number {
  let depth = 0
  for (let at = from; at < tokens.length; at++) {
    const token = tokens[at] as Token
    if (token.kind === 'sign') depth += '(['.includes(token.text) ? 1 : ')]'.includes(token.text) ? -1 : 0
    else if (depth === 0 && token.kind === 'word' && token.text === word) return at
  }
  return -1
}

/** A name as the policy writes it, and where it ends; null where none begins, or one that a policy cannot have. */
export function readName(tokens: readonly Token[], at: number): { name: string; next: number } | null {
  const isName = (token: Token | undefined) => (token?.kind === 'word' || token?.kind === 'quoted') && /^[^\s."]+$/.test(token.text)
  const first = tokens[at]
  if (first === undefined || !isName(first)) return null
  if (!says(tokens, at + 1, '.')) return { name: first.text, next: at + 1 }
  const second = tokens[at + 2]
  if (second === undefined || !isName(second)) return null
  return { name: first.text === 'public' ? second.text : `${first.text}.${second.text}`, next: at + 3 }
}

/** The same statement but for spaces, comments and letter case outside of quotes. */
export function sameTokens(a: readonly Token[], b: readonly Token[]): boolean {
  return a.length === b.length && a.every((token, index) => token.kind === b[index]?.kind && token.text === b[index]?.text)
}
