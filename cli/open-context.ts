import { statSync } from 'node:fs'
import { resolve } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { createRuntime, type Runtime } from '../lib/compose.ts'
import { defineConfig, type Policy, type PolicyInput } from '../lib/config/index.ts'
import type { Context } from '../lib/platform/context.ts'
import { CaretakerError, hasCode } from '../lib/platform/errors.ts'
import { createLog } from '../lib/platform/log.ts'
import type { Attached } from '../local/attach.ts'
import type { Output } from './command.ts'
import { ownStore } from './own-store.ts'

interface Options {
  flags: Record<string, string | boolean | string[] | undefined>
  out: Output
}

/** A command has as long as its operator lets it, ms. */
const commandTimeMs = 24 * 3_600_000

/**
 * The context a command works in, made when it first asks: over `--database-url` (or DATABASE_URL), else over the local
 * stack, which is started for as long as the command takes when it is not running.
 */
export function openContext({ flags, out }: Options): { context: () => Promise<Context>; close(): Promise<void> } {
  let opened: Promise<{ context: Context; close(): Promise<void> }> | undefined
  return {
    context: async () => {
      opened ??= open(flags, out)
      return (await opened).context
    },
    close: async () => {
      const made = await opened?.catch(() => undefined)
      await made?.close()
    },
  }
}

async function open(flags: Options['flags'], out: Output): Promise<{ context: Context; close(): Promise<void> }> {
  const given = text(flags['database-url'])
  if (given !== undefined && !/^postgres(ql)?:\/\/\S+$/.test(given))
    throw new CaretakerError('invalid_input', '--database-url: expected postgres://USER:PASSWORD@HOST:PORT/DATABASE.')
  const url = given ?? ([process.env.DATABASE_URL, process.env.SUPABASE_DB_URL].find((one) => one !== undefined && one !== '') || undefined)
  // Before anything is started: a policy that cannot be used is said at once.
  const asked = flags.config === undefined ? undefined : await loadPolicy(text(flags.config))
  const stopping = listenForStop()
  let stack: Attached | undefined
  let runtime: Runtime | undefined
  const close = async () => {
    await runtime?.close()
    await stack?.close()
    stopping.done()
  }
  try {
    const { atAddress, attachStack, dataDirectoryOf, localSecrets } = await import('../local/attach.ts')
    if (url === undefined) stack = await attachStack({ directory: text(flags.data), note: (line) => out.progress(line) })
    stopping.asked.throwIfAborted()
    const environment: Record<string, string | undefined> =
      stack === undefined
        ? { ...(await localSecrets(text(flags.data))), ...process.env, DATABASE_URL: url }
        : { ...process.env, ...stack.environment }
    const policy = asked ?? (await loadPolicy(stack?.policyFile))
    const made = runtimeOf(flags, stack === undefined ? policy : atAddress(policy, environment.PUBLIC_URL ?? ''), environment)
    runtime = made
    const context = made.context({
      actor: { type: 'cli' },
      signal: stopping.asked,
      deadline: new Date(made.clock.now().getTime() + commandTimeMs),
    })
    const unset = url !== undefined && made.policy.backup?.store === undefined
    const objects = unset
      ? ownStore({
          dataDirectory: dataDirectoryOf(text(flags.data)),
          databaseUrl: url,
          env: made.env,
          note: (line) => process.stderr.write(`${line}\n`),
        })
      : context.objects
    return { context: { ...context, objects }, close }
  } catch (error) {
    await close()
    throw error
  }
}

/** What the command line says over the policy is called by its own name when it is wrong. */
function runtimeOf(flags: Options['flags'], policy: Policy, environment: Record<string, string | undefined>): Runtime {
  try {
    return createRuntime({
      policy,
      environment,
      store: text(flags.store),
      recipients: Array.isArray(flags.recipient) ? flags.recipient : undefined,
      // A person reads what the command says; the log is for what they did not ask for.
      log: createLog({ level: process.env.LOG_LEVEL ?? 'fatal', destination: process.stderr }),
    })
  } catch (error) {
    const [issue] = hasCode(error, 'policy_invalid') ? error.issues : []
    const name = issue?.path.startsWith('backup.store') ? 'store' : issue?.path.startsWith('backup.recipients') ? 'recipient' : undefined
    if (issue === undefined || name === undefined || flags[name] === undefined) throw error
    throw new CaretakerError('invalid_input', `--${name}: ${issue.message}.`, { cause: error })
  }
}

/** The first Ctrl-C ends in order, the second at once. Under npm one Ctrl-C arrives twice, from the terminal and passed on. */
function listenForStop(): { asked: AbortSignal; done(): void } {
  const stop = new AbortController()
  let askedAtMs = 0
  const interrupt = () => {
    if (stop.signal.aborted) {
      if (performance.now() - askedAtMs > 500) process.exit(130)
      return
    }
    askedAtMs = performance.now()
    process.stderr.write('Stopping; press Ctrl-C again to stop at once.\n')
    stop.abort(new CaretakerError('timeout', 'Stopped by the operator.'))
  }
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
  for (const signal of signals) process.on(signal, interrupt)
  return {
    asked: stop.signal,
    done: () => {
      for (const signal of signals) process.off(signal, interrupt)
    },
  }
}

/** The policy in `file`, or the one at the project's root. */
export async function loadPolicy(file: string | undefined): Promise<Policy> {
  const path = file === undefined ? fileURLToPath(new URL('../caretaker.config.ts', import.meta.url)) : resolve(file)
  const found = statSync(path, { throwIfNoEntry: false })
  if (found === undefined) throw new CaretakerError('invalid_input', `--config: there is no file ${path}.`)
  if (!found.isFile() || !/\.[cm]?[jt]s$/.test(path))
    throw new CaretakerError('invalid_input', `--config: ${path} is not a policy; expected a TypeScript or JavaScript file.`)
  let loaded: { default?: unknown }
  try {
    loaded = (await import(pathToFileURL(path).href)) as { default?: unknown }
  } catch (cause) {
    if (cause instanceof CaretakerError) throw cause
    throw new CaretakerError(
      'policy_invalid',
      `${path} cannot be loaded: ${cause instanceof Error ? cause.message : 'it threw something'}`,
      { cause },
    )
  }
  const exported = loaded.default
  if (typeof exported !== 'object' || exported === null)
    throw new CaretakerError('policy_invalid', `${path}: expected \`export default defineConfig({ … })\`.`)
  // Held to the schema once more: the file may have exported a plain object.
  return defineConfig(exported as PolicyInput)
}

function text(value: string | boolean | string[] | undefined): string | undefined {
  return typeof value === 'string' ? value : undefined
}
