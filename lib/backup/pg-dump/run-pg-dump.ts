import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Session } from '../../platform/db.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { startOwnNode } from '../../platform/own-node.ts'
import { borrowSession, openRawSocket, type RawSocket } from './raw-socket.ts'

/** A connection of its own is opened at `databaseUrl`, a secret; a session is used as it is, in its transaction. */
type Where = { databaseUrl: string; ca?: string | undefined } | { session: Session }

export type PgDumpOptions = Where & {
  /** As on the command line, once a run; `-f`, `-U` and `--inserts` are given already. */
  runs: readonly (readonly string[])[]
  signal: AbortSignal
}

/**
 * Where the program's file is when this module runs from source, and where bundlers are told to put it. Not `worker.ts`:
 * bundlers look for it beside the function they make, and there is a function of that name.
 */
const programFile = 'lib/backup/pg-dump/program.ts'

function locateProgram(): string {
  const beside = fileURLToPath(new URL('./program.ts', import.meta.url))
  if (existsSync(beside)) return beside
  const included = resolve(programFile)
  if (existsSync(included)) return included
  throw new CaretakerError(
    'not_configured',
    `pg_dump needs ${programFile} and node_modules/@electric-sql/pglite-tools beside the bundled function. Add both to included_files (Netlify) or includeFiles (Vercel).`,
  )
}

/**
 * pg_dump runs for a fraction of a second: to compile what it uses most a second time, for speed, costs 40 MB and more time than it
 * saves (measured).
 */
const flags = ['--wasm-tiering-budget=2000000000', '--disable-warning=ExperimentalWarning']

/**
 * What pg_dump prints in each run, as strings. Schemas fit in memory; data never comes this way. All runs share one
 * connection. Each has a process of its own, because what it needs (50 MB, 150 MB where there are 10,000 tables) comes back whole
 * from a process only: a thread leaves most of it behind.
 * @throws {CaretakerError} `backup_incomplete` with pg_dump's own message; what `signal` was aborted with
 */
export async function runPgDump(options: PgDumpOptions): Promise<string[]> {
  const { signal } = options
  signal.throwIfAborted()
  const socket = await ('session' in options ? borrowSession(options.session) : openRawSocket(options.databaseUrl, options.ca))
  try {
    const scripts: string[] = []
    for (const args of options.runs) scripts.push(await runOnce(args, socket, signal))
    return scripts
  } finally {
    await socket.close()
  }
}

function runOnce(args: readonly string[], socket: RawSocket, signal: AbortSignal): Promise<string> {
  const program = startOwnNode(flags, locateProgram())
  const { stdin, stdout, stderr } = program
  return new Promise<string>((done, fail) => {
    const incomplete = (why: string, cause?: unknown) =>
      fail(new CaretakerError('backup_incomplete', `The schema could not be read: ${why}`, cause === undefined ? {} : { cause }))
    const abort = () => fail(signal.reason)
    signal.addEventListener('abort', abort, { once: true })
    let complaints = ''
    stderr?.setEncoding('utf8').on('data', (text: string) => {
      complaints = `${complaints}${text}`.slice(-2_000)
    })
    program.once('error', (error) => incomplete('pg_dump could not be started.', error))
    program.once('close', (code, killed) => {
      signal.removeEventListener('abort', abort)
      incomplete(`pg_dump ended early (${killed ?? `exit code ${code}`}). ${complaints.replace(/\s+/g, ' ').trim()}`)
    })
    // It has ended then, which is told above.
    stdin?.on('error', () => undefined)
    const tell = (content: Uint8Array) => {
      const head = Buffer.alloc(4)
      head.writeUInt32BE(content.length)
      stdin?.write(head)
      stdin?.write(content)
    }
    stdout?.on(
      'data',
      said((kind, content) => {
        if (kind === 's') done(content.toString())
        else if (kind === 'f') incomplete(complaint(content.toString()))
        else
          socket
            .exchange(content)
            .then(tell, (error: unknown) =>
              incomplete('the connection to the database was lost. Run the backup again when the database is up.', error),
            )
      }),
    )
    tell(Buffer.from(JSON.stringify(args)))
  }).finally(() => program.kill('SIGKILL'))
}

/** pg_dump's own words, without those about where its file is, which it looks for in vain. */
function complaint(text: string): string {
  const said = text.slice(Math.max(0, text.search(/pg_dump: error:/)))
  return said
    .replace(/(?<!^)(?=pg_dump: )/g, ' ')
    .replace(/\s+/g, ' ')
    .trim()
}

/** Puts what the program says together from chunks that are cut anywhere. */
function said(hear: (kind: string, content: Buffer) => void): (chunk: Buffer) => void {
  let pieces: Buffer[] = []
  let bytes = 0
  let wanted = 5
  return (chunk) => {
    pieces.push(chunk)
    bytes += chunk.length
    while (bytes >= wanted) {
      const all = Buffer.concat(pieces)
      wanted = 5 + all.readUInt32BE(1)
      pieces = [all]
      if (bytes < wanted) return
      hear(all.toString('latin1', 0, 1), all.subarray(5, wanted))
      pieces = [all.subarray(wanted)]
      bytes -= wanted
      wanted = 5
    }
  }
}
