import { randomUUID } from 'node:crypto'
import { defineConfig, type Policy } from './config/index.ts'
import type { Actor } from './platform/actor.ts'
import { type Clock, systemClock } from './platform/clock.ts'
import type { Context } from './platform/context.ts'
import { type Database, openDatabase } from './platform/db.ts'
import { type Env, readEnv, requireEnv } from './platform/env.ts'
import { CaretakerError } from './platform/errors.ts'
import { createLog, type Log } from './platform/log.ts'
import type { ObjectStore } from './platform/objects.ts'
import { openSentry } from './platform/sentry.ts'
import { lazySupabase } from './platform/supabase.ts'

export interface RuntimeOptions {
  policy: Policy
  /** Default: the process's environment. */
  environment?: Record<string, string | undefined>
  /** Override `backup.store` and `backup.recipients` of the policy and the environment. */
  store?: string | undefined
  recipients?: readonly string[] | undefined
  log?: Log
  clock?: Clock
}

/**
 * What one job may hold at a time: a lock's session, a transaction, and the heartbeat that says the worker lives. With
 * fewer the first would wait for the second for ever. Connections are made only when they are needed.
 */
const fewestConnections = 3

/** What one process (a function instance, the CLI, the local stack) keeps between requests: pools and clients, nothing else. */
export interface Runtime {
  readonly env: Env
  readonly policy: Policy
  readonly log: Log
  readonly clock: Clock
  context(request: { actor: Actor; requestId?: string; signal?: AbortSignal; deadline: Date }): Context
  close(): Promise<void>
}

/**
 * Joins environment, policy and drivers. Opens no connection by itself.
 * @throws {CaretakerError} `env_invalid`
 */
export function createRuntime(options: RuntimeOptions): Runtime {
  const env = readEnv(options.environment)
  const policy = withBackupTarget(options.policy, {
    store: options.store ?? env.BACKUP_STORE,
    recipients: options.recipients ?? env.BACKUP_RECIPIENTS?.split(','),
  })
  const clock = options.clock ?? systemClock
  const log = options.log ?? createLog({ level: env.LOG_LEVEL })
  let database: Database | undefined
  const db = lazyDatabase(() => {
    database ??= openDatabase({
      sessionUrl: requireEnv(env, 'DATABASE_URL', 'Caretaker'),
      pooledUrl: env.DATABASE_POOLED_URL,
      ca: env.DATABASE_CA,
      maxConnections: Math.max(fewestConnections, env.DATABASE_POOL_MAX),
    })
    return database
  })
  const supabase = lazySupabase(env, globalThis.fetch)
  let objects: Promise<ObjectStore> | undefined
  const openObjects = () => {
    objects ??= openStore(policy.backup?.store, env)
    objects.catch(() => {
      objects = undefined
    })
    return objects
  }
  const limiter = lazyLimiter(env, db)
  const sentry = openSentry(env, globalThis.fetch)
  return {
    env,
    policy,
    log,
    clock,
    context: ({ actor, requestId = randomUUID(), signal = new AbortController().signal, deadline }) => ({
      config: policy,
      env,
      db,
      supabase,
      objects: openObjects,
      limiter,
      log: log.child({ requestId }),
      sentry,
      clock,
      fetch: globalThis.fetch,
      actor,
      signal,
      deadline,
    }),
    close: async () => {
      await database?.close()
    },
  }
}

/** Where backups go and who can read them may differ by deployment: the environment and the command line say it over the policy. */
function withBackupTarget(policy: Policy, target: { store?: string | undefined; recipients?: readonly string[] | undefined }): Policy {
  if (target.store === undefined && target.recipients === undefined) return policy
  const backup = { ...policy.backup, ...(target.store === undefined ? {} : { store: target.store }) }
  if (target.recipients !== undefined)
    backup.recipients = target.recipients.map((recipient) => recipient.trim()).filter((recipient) => recipient !== '')
  // Said at run time, it is held to the same rules as in the policy.
  const { backup: checked } = defineConfig({ app: policy.app, backup })
  return checked === undefined ? policy : { ...policy, backup: checked }
}

async function openStore(url: string | undefined, env: Env): Promise<ObjectStore> {
  if (url === undefined)
    throw new CaretakerError('not_configured', 'There is no object store: set `backup.store` in the policy, or pass --store.')
  const { openObjectStore } = await import('./drivers/objects/index.ts')
  return openObjectStore(url, env)
}

function lazyLimiter(env: Env, db: Database): Context['limiter'] {
  let opened: Promise<Context['limiter']> | undefined
  return {
    async hit(key, limit, windowSeconds) {
      opened ??= import('./drivers/limiter/index.ts').then(({ openLimiter }) => openLimiter(env, db))
      return (await opened).hit(key, limit, windowSeconds)
    },
  }
}

/** A missing DATABASE_URL shows when the database is first asked for, not in functions that never ask. */
function lazyDatabase(open: () => Database): Database {
  return {
    query: async (sql, params) => open().query(sql, params),
    execute: async (sql, params) => open().execute(sql, params),
    probe: async (...given) => open().probe(...given),
    waiting: () => open().waiting?.() ?? 0,
    transaction: async (work, options) => open().transaction(work, options),
    session: async (work) => open().session(work),
    get sessionUrl() {
      return open().sessionUrl
    },
    close: async () => open().close(),
  }
}
