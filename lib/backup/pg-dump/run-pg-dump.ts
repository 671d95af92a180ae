import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads'
import { CaretakerError } from '../../platform/errors.ts'
import { openRawSocket, type RawSocket } from './raw-socket.ts'

export interface PgDumpOptions {
  /** A connection of its own is opened there. A secret. */
  databaseUrl: string
  ca?: string | undefined
  /** As on the command line, once a run; `-f`, `-U` and `--inserts` are given already. */
  runs: readonly (readonly string[])[]
  signal: AbortSignal
}

/**
 * Where the thread's file is when this module runs from source, and where bundlers are told to put it. Not `worker.ts`:
 * bundlers look for it beside the function they make, and there is a function of that name.
 */
export const threadFile = 'lib/backup/pg-dump/thread.ts'

function locateThread(): URL {
  const beside = new URL('./thread.ts', import.meta.url)
  if (existsSync(fileURLToPath(beside))) return beside
  const included = resolve(threadFile)
  if (existsSync(included)) return pathToFileURL(included)
  throw new CaretakerError(
    'not_configured',
    `pg_dump needs ${threadFile} and node_modules/@electric-sql/pglite-tools beside the bundled function. Add both to included_files (Netlify) or includeFiles (Vercel).`,
  )
}

/**
 * What pg_dump prints in each run, as strings. Schemas fit in memory; data never comes this way. All runs share one
 * connection. Each has a thread of its own, whose memory is given back when it ends: two in one thread peak 80 MB higher where there
 * are 10,000 tables (measured).
 * @throws {CaretakerError} `backup_incomplete` with pg_dump's own message; what `signal` was aborted with
 */
export async function runPgDump(options: PgDumpOptions): Promise<string[]> {
  const { signal } = options
  signal.throwIfAborted()
  const socket = await openRawSocket(options.databaseUrl, options.ca)
  try {
    const scripts: string[] = []
    for (const args of options.runs) scripts.push(await runOnce(args, socket, signal))
    return scripts
  } finally {
    socket.destroy()
  }
}

async function runOnce(args: readonly string[], socket: RawSocket, signal: AbortSignal): Promise<string> {
  const { port1: wire, port2: theirs } = new MessageChannel()
  const turn = new SharedArrayBuffer(4)
  const worker = new Worker(locateThread(), {
    workerData: { args: [...args], wire: theirs, turn },
    transferList: [theirs],
    // Nothing of this process's environment or flags is needed there.
    env: {},
    execArgv: [],
    stdout: true,
    stderr: true,
    resourceLimits: { maxYoungGenerationSizeMb: 8 },
  })
  try {
    return await converse(worker, wire, turn, socket, signal)
  } finally {
    wire.close()
    await worker.terminate()
  }
}

function converse(worker: Worker, wire: MessagePort, turn: SharedArrayBuffer, socket: RawSocket, signal: AbortSignal): Promise<string> {
  const replied = new Int32Array(turn)
  const reply = (bytes: Uint8Array<ArrayBuffer>) => {
    wire.postMessage(bytes, [bytes.buffer])
    Atomics.store(replied, 0, 1)
    Atomics.notify(replied, 0)
  }
  return new Promise((done, fail) => {
    const incomplete = (why: string, cause?: unknown) =>
      fail(new CaretakerError('backup_incomplete', `The schema could not be read: ${why}`, cause === undefined ? {} : { cause }))
    const abort = () => fail(signal.reason)
    if (signal.aborted) return abort()
    signal.addEventListener('abort', abort, { once: true })
    worker.once('error', (error) => incomplete('pg_dump ended with an error.', error))
    worker.once('exit', (code) => {
      signal.removeEventListener('abort', abort)
      incomplete(`pg_dump ended early (exit code ${code}).`)
    })
    worker.once('message', (message: { script: string } | { failure: string }) => {
      if ('script' in message) done(message.script)
      else incomplete(message.failure.replace(/\s+/g, ' ').trim())
    })
    wire.on('message', (bytes: Uint8Array) => {
      socket.exchange(Buffer.from(bytes)).then(reply, (error: unknown) => incomplete('the connection to the database was lost.', error))
    })
  })
}
