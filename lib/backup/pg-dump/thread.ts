import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { pgDump } from '@electric-sql/pglite-tools/pg_dump'

/*
 * Runs pg_dump, compiled to WebAssembly, in a thread of its own. It talks to its server in synchronous calls; each posts
 * the bytes to the main thread, which owns the socket, and sleeps until the reply is there.
 */

const { runs, wire, turn } = workerData as { runs: string[][]; wire: MessagePort; turn: SharedArrayBuffer }
const replied = new Int32Array(turn)
const terminate = 'X'.charCodeAt(0)

function exchange(bytes: Uint8Array): Uint8Array {
  // The bytes lie in WebAssembly's memory, which is not ours to hand over.
  wire.postMessage(bytes.slice())
  Atomics.wait(replied, 0, 0)
  Atomics.store(replied, 0, 0)
  const reply = receiveMessageOnPort(wire) as { message: Uint8Array } | undefined
  if (reply === undefined) throw new Error('the main thread woke pg_dump without a reply')
  return reply.message
}

const server = {
  query: () => Promise.resolve({ rows: [{ search_path: '' }] }),
  exec: () => Promise.resolve([]),
  execProtocolRawStream(bytes: Uint8Array, options: { onRawData(bytes: Uint8Array): void }) {
    if (bytes[0] === terminate) return
    options.onRawData(exchange(bytes))
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

try {
  const scripts: string[] = []
  for (const args of runs) scripts.push(await (await pgDump({ pg: server as never, args })).text())
  parentPort?.postMessage({ scripts })
} catch (error) {
  parentPort?.postMessage({ failure: error instanceof Error ? error.message : String(error) })
}
