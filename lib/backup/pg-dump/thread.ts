import { setFlagsFromString } from 'node:v8'
import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { pgDump } from '@electric-sql/pglite-tools/pg_dump'

/*
 * Runs pg_dump, compiled to WebAssembly, in a thread of its own. It talks to its server in synchronous calls; each posts
 * the bytes to the main thread, which owns the socket, and sleeps until the reply is there.
 */

const { args, wire, turn } = workerData as { args: string[]; wire: MessagePort; turn: SharedArrayBuffer }
const replied = new Int32Array(turn)
const terminate = 'X'.charCodeAt(0)

function exchange(message: Uint8Array): Uint8Array<ArrayBuffer> {
  wire.postMessage(message)
  Atomics.wait(replied, 0, 0)
  Atomics.store(replied, 0, 0)
  const reply = receiveMessageOnPort(wire) as { message: Uint8Array<ArrayBuffer> } | undefined
  if (reply === undefined) throw new Error('the main thread woke pg_dump without a reply')
  return reply.message
}

/** libpq gives what does not fit into its buffer in pieces: eight kilobytes now, the rest a moment later. */
let pieces: Uint8Array[] = []

function whole(piece: Uint8Array): Uint8Array | undefined {
  // It lies in WebAssembly's memory, which is not ours to hand over.
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
    if (!budgetIsUsual) setFlagsFromString(`--wasm-tiering-budget=${usualBudget}`)
    budgetIsUsual = true
    const message = whole(bytes)
    if (message === undefined || message[0] === terminate) return
    const reply = exchange(message)
    // It is copied there.
    options.onRawData(reply)
    reply.buffer.transfer(0)
  },
}

/*
 * The wrapper removes lines that begin with \restrict or \unrestrict from the whole output, and with them any such line
 * in the body of a function. This thread runs nothing else, so that one replacement is turned off here.
 */
const replace = String.prototype.replace
String.prototype.replace = function (this: string, pattern: string | RegExp, replacement: never) {
  if (pattern instanceof RegExp && pattern.source.includes('restrict')) return String(this)
  return replace.call(this, pattern as RegExp, replacement)
} as typeof replace

/*
 * pg_dump runs for a fraction of a second. To compile the functions it uses most a second time, for speed, costs 40 MB and
 * more time than it saves (measured). The budget after which V8 does so is read when a module is made, and is the process's: it is
 * set back at the first thing pg_dump says, which is when its module is there.
 */
const usualBudget = 13_000_000
setFlagsFromString('--wasm-tiering-budget=2000000000')
let budgetIsUsual = false

try {
  parentPort?.postMessage({ script: await (await pgDump({ pg: server as never, args })).text() })
} catch (error) {
  parentPort?.postMessage({ failure: error instanceof Error ? error.message : String(error) })
}
