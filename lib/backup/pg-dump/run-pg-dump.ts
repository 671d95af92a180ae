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
 * What pg_dump prints in each run, as strings. Schemas fit in memory; data never comes this way. All runs share one thread
 * and one connection: another thread would cost 40 MB.
 * @throws {CaretakerError} `backup_incomplete` with pg_dump's own message
 */
export async function runPgDump(options: PgDumpOptions): Promise<string[]> {
  const socket = await openRawSocket(options.databaseUrl, options.ca)
  const { port1: wire, port2: theirs } = new MessageChannel()
  const turn = new SharedArrayBuffer(4)
  const worker = new Worker(locateThread(), {
    workerData: { runs: options.runs.map((args) => [...args]), wire: theirs, turn },
    transferList: [theirs],
    // Nothing of this process's environment or flags is needed there.
    env: {},
    execArgv: [],
    stdout: true,
    stderr: true,
    resourceLimits: { maxYoungGenerationSizeMb: 8 },
  })
  try {
    return await converse(worker, wire, turn, socket, options.signal)
  } finally {
    wire.close()
    socket.destroy()
    await worker.terminate()
  }
}

function converse(worker: Worker, wire: MessagePort, turn: SharedArrayBuffer, socket: RawSocket, signal: AbortSignal): Promise<string[]> {
  const replied = new Int32Array(turn)
  const reply = (bytes: Uint8Array) => {
    wire.postMessage(new Uint8Array(bytes))
    Atomics.store(replied, 0, 1)
    Atomics.notify(replied, 0)
  }
  return new Promise((done, fail) => {
    const incomplete = (why: string, cause?: unknown) =>
      fail(new CaretakerError('backup_incomplete', `The schema could not be read: ${why}`, cause === undefined ? {} : { cause }))
    const abort = () => fail(new CaretakerError('backup_incomplete', 'The backup was stopped while the schema was read.'))
    if (signal.aborted) return abort()
    signal.addEventListener('abort', abort, { once: true })
    worker.once('error', (error) => incomplete('pg_dump ended with an error.', error))
    worker.once('exit', (code) => incomplete(`pg_dump ended early (exit code ${code}).`))
    worker.once('message', (message: { scripts: string[] } | { failure: string }) => {
      signal.removeEventListener('abort', abort)
      if ('scripts' in message) done(message.scripts)
      else incomplete(message.failure.replace(/\s+/g, ' ').trim())
    })
    wire.on('message', (bytes: Uint8Array) => {
      socket.exchange(Buffer.from(bytes)).then(reply, (error: unknown) => incomplete('the connection to the database was lost.', error))
    })
  })
}
