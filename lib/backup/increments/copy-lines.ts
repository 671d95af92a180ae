/** Cuts chunks of COPY's text format into lines, without the line feed. No value holds one: COPY writes it as \n. */
export class CopyLines {
  #rest: Buffer[] = []

  /** True when the last line was not ended. */
  get open(): boolean {
    return this.#rest.length > 0
  }

  *push(chunk: Buffer): Generator<Buffer, void, undefined> {
    let from = 0
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, from)) {
      const piece = chunk.subarray(from, end)
      from = end + 1
      if (this.#rest.length === 0) yield piece
      else {
        const line = Buffer.concat([...this.#rest, piece])
        this.#rest = []
        yield line
      }
    }
    if (from < chunk.length) this.#rest.push(chunk.subarray(from))
  }
}

const tab = 9

/** The columns `lsn`, `xid` and `data` of a line; `data` as it stands there, with COPY's escapes. */
export function splitLine(line: Buffer): { lsn: string; data: Buffer } {
  const first = line.indexOf(tab)
  const second = line.indexOf(tab, first + 1)
  if (first < 0 || second < 0) throw new SyntaxError('a line that is not three columns')
  return { lsn: line.toString('latin1', 0, first), data: line.subarray(second + 1) }
}

const escapes: Readonly<Record<string, string>> = { b: '\b', f: '\f', n: '\n', r: '\r', t: '\t', v: '\v' }

/** A value without COPY's escapes. */
export function unescapeCopy(text: string): string {
  return text.includes('\\') ? text.replace(/\\(.)/gs, (_, char: string) => escapes[char] ?? char) : text
}
