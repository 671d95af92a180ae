import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { createRuntime, type Runtime } from '../lib/compose.ts'
import type { Policy } from '../lib/config/index.ts'
import type { Context } from '../lib/platform/context.ts'
import { CaretakerError } from '../lib/platform/errors.ts'
import { createLog } from '../lib/platform/log.ts'
import type { Output } from './command.ts'

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
  const url = text(flags['database-url']) ?? process.env.DATABASE_URL ?? process.env.SUPABASE_DB_URL
  const { attachStack, localSecrets } = await import('../local/attach.ts')
  const stack = url === undefined ? await attachStack({ directory: text(flags.data), note: (line) => out.progress(line) }) : undefined
  const environment: Record<string, string | undefined> =
    stack === undefined
      ? { ...(await localSecrets(text(flags.data))), ...process.env, DATABASE_URL: url }
      : { ...process.env, ...stack.environment }
  const stop = new AbortController()
  let askedAtMs = 0
  const interrupt = () => {
    // Once: end in order. Twice: at once. Under npm one Ctrl-C arrives twice, from the terminal and passed on by npm.
    if (stop.signal.aborted) {
      if (performance.now() - askedAtMs > 500) process.exit(130)
      return
    }
    askedAtMs = performance.now()
    out.line('Stopping; press Ctrl-C again to stop at once.')
    stop.abort(new CaretakerError('timeout', 'Stopped by the operator.'))
  }
  process.on('SIGINT', interrupt)
  let runtime: Runtime | undefined
  try {
    runtime = createRuntime({
      policy: await loadPolicy(text(flags.config) ?? stack?.policyFile),
      environment,
      store: text(flags.store),
      recipients: Array.isArray(flags.recipient) ? flags.recipient : undefined,
      // A person reads what the command says; the log is for what they did not ask for.
      log: createLog({ level: process.env.LOG_LEVEL ?? 'fatal', destination: process.stderr }),
    })
    const { clock } = runtime
    const made = runtime
    return {
      context: runtime.context({ actor: { type: 'cli' }, signal: stop.signal, deadline: new Date(clock.now().getTime() + commandTimeMs) }),
      close: async () => {
        process.off('SIGINT', interrupt)
        await made.close()
        await stack?.close()
      },
    }
  } catch (error) {
    await runtime?.close()
    await stack?.close()
    throw error
  }
}

/** The policy in `file`, or the one at the project's root. */
export async function loadPolicy(file: string | undefined): Promise<Policy> {
  const path = file === undefined ? fileURLToPath(new URL('../caretaker.config.ts', import.meta.url)) : resolve(file)
  if (!existsSync(path)) throw new CaretakerError('invalid_input', `--config: there is no file ${path}.`)
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
  const policy = loaded.default as Policy | undefined
  if (typeof policy?.app?.name !== 'string')
    throw new CaretakerError('policy_invalid', `${path}: expected \`export default defineConfig({ … })\`.`)
  return policy
}

function text(value: string | boolean | string[] | undefined): string | undefined {
  return typeof value === 'string' ? value : undefined
}
