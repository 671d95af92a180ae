import { createHmac } from 'node:crypto'
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { keyHash } from '../lib/http/index.ts'
import { systemClock } from '../lib/platform/clock.ts'
import { type Database, openDatabase } from '../lib/platform/db.ts'
import { CaretakerError } from '../lib/platform/errors.ts'
import { answerAsApp, isAppPath } from './app.ts'
import { databaseName, drillDatabaseName, prepareDatabase } from './database.ts'
import { examplePolicyFile } from './example.ts'
import { acquireLock } from './lock.ts'
import { type LocalPostgres, startPostgres } from './postgres.ts'
import { startOf } from './process.ts'
import { loadSecrets, type Secrets } from './secrets.ts'
import { type Handle, type LocalServer, netlifyBodyLimit, serve } from './server.ts'
import { createTokens } from './supabase/keys.ts'
import { createSupabase, isSupabasePath } from './supabase/server.ts'

/** `.caretaker/` at the project's root. */
export const defaultDataDirectory = fileURLToPath(new URL('../.caretaker', import.meta.url))
export const defaultPort = 8888

/** What serves everything that is not Supabase's: made when the environment is known. */
export interface App {
  handle: Handle
  close(): Promise<void>
}

export interface StackOptions {
  /** Default `.caretaker/` at the project's root. */
  dataDirectory?: string | undefined
  /** Default: what the folder holds; `canai` when it is new. */
  example?: string | undefined
  /** About how many rows a new example gets. */
  rows?: number | undefined
  /** Who holds the folder, for the message to a second one. */
  purpose: string
  /** How long to wait for another process that uses the folder, ms. */
  waitMs?: number
  say: (line: string) => void
}

/** The running stack: its address and the environment that the functions are given there. */
export interface Stack {
  readonly url: string
  readonly environment: Record<string, string>
  /** Opens the dashboard and the API here, as an admin. */
  readonly operatorKey: string
  readonly dataDirectory: string
  readonly example: string
  /** Rows loaded just now; null when the example was there already. */
  readonly rows: number | null
  /** Settles when PostgreSQL ends without having been asked. */
  readonly failed: Promise<void>
  stop(): Promise<void>
  /** Leaves at once; the next start recovers. */
  kill(): void
}

/**
 * Starts PostgreSQL, the example's database, the local Supabase and the app, all on one port and one folder.
 * @param app makes what answers the other paths, from the environment and the file of the example's policy (where that is not the root's)
 * @throws {CaretakerError} `local_stack` with what to do
 */
export async function startStack(
  options: StackOptions & {
    port?: number | undefined
    app: (environment: Record<string, string>, policyFile: string | undefined) => Promise<App>
  },
): Promise<Stack> {
  const undo: (() => Promise<void>)[] = []
  const stop = async () => {
    for (const step of undo.splice(0).reverse()) await step()
  }
  try {
    const already = await attachRunning(resolve(options.dataDirectory ?? defaultDataDirectory))
    if (already !== null)
      throw new CaretakerError(
        'local_stack',
        `It is running already, at ${already.environment.PUBLIC_URL}. Stop that one first, or run a second one beside it: --data DIR --port PORT`,
      )
    // The port first: a taken one is said at once, not after the database was made.
    let handle: Handle = async () => Response.json({ status: 'starting' }, { status: 503, headers: { 'retry-after': '2' } })
    const server = await openServer(options.port ?? defaultPort, (request) => handle(request), options.say)
    undo.push(() => server.stop())
    const ground = await openGround(options)
    undo.push(() => ground.close())
    const environment = environmentOf(ground, server.url)
    const operatorKey = await makeOperatorKey(ground)
    const supabase = createSupabase({
      db: ground.db,
      tokens: ground.tokens,
      clock: systemClock,
      url: server.url,
      filesDirectory: ground.filesDirectory,
    })
    const app = await options.app(environment, policyOf(ground.example).policyFile)
    undo.push(() => app.close())
    // Requests end before what they need is closed.
    undo.push(() => server.stop())
    const example = exampleApp(ground)
    handle = (request) => {
      const { pathname } = new URL(request.url)
      if (isSupabasePath(pathname)) return supabase(request)
      return isAppPath(pathname) ? example(request) : app.handle(request)
    }
    await writeState(ground.dataDirectory, {
      pid: process.pid,
      started: await startOf(process.pid),
      url: server.url,
      databaseUrl: environment.DATABASE_URL ?? '',
      example: ground.example,
    })
    undo.push(() => rm(statePath(ground.dataDirectory), { force: true }))
    return {
      url: server.url,
      environment,
      operatorKey,
      dataDirectory: ground.dataDirectory,
      example: ground.example,
      rows: ground.rows,
      failed: ground.postgres.ended,
      stop,
      kill: () => ground.postgres.kill(),
    }
  } catch (error) {
    await stop().catch(() => undefined)
    throw error
  }
}

export interface Attached {
  readonly environment: Record<string, string>
  /** The policy of the stack's example, where it is not the one at the root. */
  readonly policyFile?: string
  /** True when a stack was running; false when what is needed of one was started for this command. */
  readonly running: boolean
  close(): Promise<void>
}

/**
 * The local stack as a command needs it: the running one; or else its database and its Supabase, started for as long as
 * the command takes, and set up first where that never happened.
 */
export async function readStack(options: Omit<StackOptions, 'purpose'> & { purpose?: string }): Promise<Attached> {
  const dataDirectory = resolve(options.dataDirectory ?? defaultDataDirectory)
  const running = await attachRunning(dataDirectory)
  if (running !== null) return running
  const opened = await openGround({ waitMs: 60_000, ...options, purpose: options.purpose ?? 'a caretaker command', dataDirectory }).catch(
    async (error: unknown) => {
      // `caretaker up` may have come first while this waited.
      const meanwhile = await attachRunning(dataDirectory)
      if (meanwhile !== null) return meanwhile
      throw error
    },
  )
  if ('running' in opened) return opened
  let server: LocalServer | undefined
  try {
    let handle: Handle = () => Promise.reject(new Error('not ready'))
    server = await openServer(0, (request) => handle(request), options.say)
    const supabase = createSupabase({
      db: opened.db,
      tokens: opened.tokens,
      clock: systemClock,
      url: server.url,
      filesDirectory: opened.filesDirectory,
    })
    const app = exampleApp(opened)
    handle = (request) => (isAppPath(new URL(request.url).pathname) ? app(request) : supabase(request))
    const started = server
    return {
      environment: environmentOf(opened, server.url),
      ...policyOf(opened.example),
      running: false,
      async close() {
        await started.stop(0)
        await opened.close()
      },
    }
  } catch (error) {
    await server?.stop(0)
    await opened.close()
    throw error
  }
}

interface Ground {
  dataDirectory: string
  filesDirectory: string
  secrets: Secrets
  postgres: LocalPostgres
  db: Database
  tokens: ReturnType<typeof createTokens>
  example: string
  rows: number | null
  close(): Promise<void>
}

async function openGround(options: StackOptions): Promise<Ground> {
  const dataDirectory = resolve(options.dataDirectory ?? defaultDataDirectory)
  await mkdir(dataDirectory, { recursive: true, mode: process.getuid?.() === 0 ? 0o711 : 0o700 }).catch((cause: NodeJS.ErrnoException) => {
    throw new CaretakerError('local_stack', `The data folder ${dataDirectory} cannot be made (${cause.code}). Choose another: --data DIR`, {
      cause,
    })
  })
  const lock = await acquireLock(dataDirectory, options.purpose, options.waitMs ?? 0)
  let postgres: LocalPostgres | undefined
  let db: Database | undefined
  const close = async () => {
    await db?.close()
    await postgres?.stop()
    await lock.release()
  }
  try {
    // A stack that was killed has left this behind.
    await rm(statePath(dataDirectory), { force: true })
    const secrets = await loadSecrets(dataDirectory)
    const filesDirectory = join(dataDirectory, 'storage')
    await mkdir(join(dataDirectory, 'objects'), { recursive: true, mode: 0o700 })
    postgres = await startPostgres({ directory: dataDirectory, password: secrets.databasePassword, say: options.say })
    const { example, rows } = await prepareDatabase({
      server: postgres,
      filesDirectory,
      example: options.example,
      rows: options.rows,
      say: options.say,
    })
    db = openDatabase({ sessionUrl: postgres.url(databaseName), maxConnections: 10 })
    return {
      dataDirectory,
      filesDirectory,
      secrets,
      postgres,
      db,
      tokens: createTokens(secrets.signingKey, systemClock),
      example,
      rows,
      close,
    }
  } catch (error) {
    await close().catch(() => undefined)
    throw error
  }
}

/** The same for as long as the folder is kept, and there again where it was revoked: whoever starts the stack has its secrets. */
async function makeOperatorKey({ db, secrets }: Ground): Promise<string> {
  const key = `ck_${createHmac('sha256', secrets.cronSecret).update('operator key').digest('base64url')}`
  await db.execute(
    `insert into caretaker.api_keys (name, role, hash) values ('npm start', 'admin', $1::bytea)
     on conflict (hash) do update set revoked_at = null, role = excluded.role`,
    [keyHash(key)],
  )
  return key
}

function exampleApp({ example, secrets }: Ground): Handle {
  const secret = secretEnvironment(secrets).APP_WEBHOOK_SECRET ?? ''
  return (request) => answerAsApp(request, { name: example, secret, now: () => systemClock.now() })
}

function openServer(port: number, handle: Handle, say: (line: string) => void): Promise<LocalServer> {
  return serve({
    port,
    handle,
    // Supabase's own limit for a file, and Netlify's for a function.
    bodyLimit: (pathname) => (isSupabasePath(pathname) ? 52_428_800 : netlifyBodyLimit),
    onError: (error) =>
      say(`A request failed: ${error instanceof Error ? (error.stack ?? error.message) : 'something that is not an error was thrown'}`),
  })
}

/** Everything of the environment that comes of the folder's secrets, without addresses. */
export function secretEnvironment(secrets: Secrets): Record<string, string> {
  return {
    CRON_SECRET: secrets.cronSecret,
    ENCRYPTION_KEY: secrets.encryptionKey,
    STRIPE_WEBHOOK_SECRET: secrets.stripeWebhookSecret,
    // Derived, so that a folder that was made before it was needed has it too.
    APP_WEBHOOK_SECRET: `whsec_${createHmac('sha256', secrets.cronSecret).update('app webhooks').digest('base64')}`,
  }
}

function environmentOf(
  ground: Pick<Ground, 'secrets' | 'dataDirectory'> & { postgres: Pick<LocalPostgres, 'url'> },
  url: string,
): Record<string, string> {
  const { secrets, dataDirectory, postgres } = ground
  return {
    ...secretEnvironment(secrets),
    DATABASE_URL: postgres.url(databaseName),
    DRILL_DATABASE_URL: postgres.url(drillDatabaseName),
    SUPABASE_URL: url,
    SUPABASE_ANON_KEY: secrets.anonKey,
    SUPABASE_SERVICE_ROLE_KEY: secrets.serviceRoleKey,
    PUBLIC_URL: url,
    BACKUP_STORE: pathToFileURL(join(dataDirectory, 'objects')).href,
    BACKUP_RECIPIENTS: secrets.backupRecipient,
    CARETAKER_ENVIRONMENT: 'development',
  }
}

interface State {
  pid: number
  started: string
  url: string
  databaseUrl: string
  example: string
}

const statePath = (dataDirectory: string) => join(dataDirectory, 'running.json')

async function writeState(dataDirectory: string, state: State): Promise<void> {
  const draft = `${statePath(dataDirectory)}.new`
  await writeFile(draft, JSON.stringify(state), { mode: 0o600 })
  await rename(draft, statePath(dataDirectory))
}

async function attachRunning(dataDirectory: string): Promise<Attached | null> {
  const text = await readFile(statePath(dataDirectory), 'utf8').catch(() => null)
  if (text === null) return null
  const state = JSON.parse(text) as State
  if (state.started === '' || (await startOf(state.pid)) !== state.started) return null
  const secrets = await loadSecrets(dataDirectory)
  const environment = environmentOf(
    { secrets, dataDirectory, postgres: { url: (database = databaseName) => state.databaseUrl.replace(/\/[^/]*$/, `/${database}`) } },
    state.url,
  )
  return { environment, ...policyOf(state.example), running: true, close: async () => undefined }
}

/** The root policy is the first example's. */
function policyOf(example: string): { policyFile?: string } {
  return example === 'canai' ? {} : { policyFile: examplePolicyFile(example) }
}
