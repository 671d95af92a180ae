import { readSync, writeSync } from 'node:fs'
import { pgDump } from '@electric-sql/pglite-tools/pg_dump'

/*
 * Runs pg_dump, compiled to WebAssembly, in a process of its own. It talks to its server in synchronous calls: each goes out on
 * standard output, and the reply is waited for on standard input. The other side is run-pg-dump.ts.
 */

const terminate = 'X'.charCodeAt(0)

/** What is said, a letter and its length before it. */
function say(kind: 'q' | 's' | 'f', content: Uint8Array): void {
  const head = Buffer.alloc(5)
  head.write(kind)
  head.writeUInt32BE(content.length, 1)
  for (const bytes of [head, content]) for (let at = 0; at < bytes.length; ) at += writeSync(1, bytes, at)
}

/** What is heard, its length before it. */
function hear(): Uint8Array<ArrayBuffer> {
  return take(Buffer.from(take(4)).readUInt32BE(0))
}

function take(bytes: number): Uint8Array<ArrayBuffer> {
  const taken = new Uint8Array(bytes)
  for (let at = 0; at < bytes; ) {
    const read = readSync(0, taken, at, bytes - at, null)
    // Whoever asked for all this is gone.
    if (read === 0) process.exit(1)
    at += read
  }
  return taken
}

/** libpq gives what does not fit into its buffer in pieces: eight kilobytes now, the rest a moment later. */
let pieces: Uint8Array[] = []

function whole(piece: Uint8Array): Uint8Array | undefined {
  // It lies in WebAssembly's memory, where the next will lie too.
  pieces.push(piece.slice())
  const bytes = pieces.length === 1 ? (pieces[0] as Uint8Array) : Buffer.concat(pieces)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  // Only the start-up packet has no letter before its length.
  const first = bytes[0] === 0 ? 0 : 1
  let end = 0
  while (end + first + 4 <= bytes.length) end += first + view.getUint32(end + first)
  if (end !== bytes.length) {
    pieces = [bytes]
    return undefined
  }
  pieces = []
  return bytes
}

const server = {
  query: () => Promise.resolve({ rows: [{ search_path: '' }] }),
  exec: () => Promise.resolve([]),
  execProtocolRawStream(bytes: Uint8Array, options: { onRawData(bytes: Uint8Array): void }) {
    const message = whole(bytes)
    if (message === undefined || message[0] === terminate) return
    say('q', message)
    const reply = hear()
    // It is copied there.
    options.onRawData(reply)
    reply.buffer.transfer(0)
  },
}

/*
 * The wrapper removes lines that begin with \restrict or \unrestrict from the whole output, and with them any such line
 * in the body of a function. This process runs nothing else, so that one replacement is turned off here.
 */
const replace = String.prototype.replace
String.prototype.replace = function (this: string, pattern: string | RegExp, replacement: never) {
  if (pattern instanceof RegExp && pattern.source.includes('restrict')) return String(this)
  return replace.call(this, pattern as RegExp, replacement)
} as typeof replace

// The name it calls itself by in what it complains of.
process.argv[1] = 'pg_dump'

try {
  const args = JSON.parse(Buffer.from(hear()).toString()) as string[]
  say('s', new Uint8Array(await (await pgDump({ pg: server as never, args })).arrayBuffer()))
} catch (error) {
  say('f', Buffer.from(error instanceof Error ? error.message : String(error)))
}
