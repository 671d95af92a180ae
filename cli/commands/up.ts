import { createWriteStream } from 'node:fs'
import { basename, join, relative } from 'node:path'
import { styleText } from 'node:util'
import { jobs } from '../../lib/catalog.ts'
import { createRuntime, type Runtime } from '../../lib/compose.ts'
import type { HealthReport } from '../../lib/health/index.ts'
import { serveRoutes } from '../../lib/http/index.ts'
import { type Job, listRuns, nextSlots, type Run } from '../../lib/jobs/index.ts'
import { CaretakerError } from '../../lib/platform/errors.ts'
import { createLog } from '../../lib/platform/log.ts'
import { recordRequests } from '../../lib/record-requests.ts'
import { allRoutes } from '../../lib/routes/index.ts'
import { atAddress } from '../../local/at-address.ts'
import { examples, firstPerson } from '../../local/example.ts'
import { cleanupJob, firstRound, firstRoundPending } from '../../local/first-round.ts'
import { fireOverHttp, startScheduler } from '../../local/scheduler.ts'
import { identityFile } from '../../local/secrets.ts'
import { defaultDataDirectory, defaultPort, type Stack, startStack } from '../../local/stack.ts'
import type { Command, Invocation, Output } from '../command.ts'
import { loadPolicy } from '../open-context.ts'
import { duration } from '../output.ts'

/** As long as the hosts give them: a background function, and a synchronous one, ms. */
const workerTimeMs = 15 * 60_000
const requestTimeMs = 60_000
const sameKeyMs = 500

const up: Command = {
  name: 'up',
  usage: `[--example ${examples.join('|')}] [--port ${defaultPort}] [--data DIR] [--rows N]`,
  summary: 'Run everything locally: PostgreSQL, Supabase, every function, the clock',
  options: {
    example: { type: 'string', value: 'NAME', about: `the app to look after: ${examples.join(', ')}; loaded once into a new folder` },
    port: { type: 'string', value: 'PORT', about: `of Caretaker and Supabase; ${defaultPort} unless given, 0 takes a free one` },
    rows: {
      type: 'string',
      value: 'N',
      about: 'how much data a new example gets; about 200,000 of canai and 20,000 of the others unless given',
    },
  },
  run: runUp,
}

export const commands: Command[] = [up]

async function runUp({ args, flags, out }: Invocation): Promise<void> {
  if (args.length > 0) throw new CaretakerError('bad_request', `\`caretaker up\` takes no arguments, found "${args.join(' ')}".`)
  const example = text(flags.example)
  if (example !== undefined && !examples.includes(example))
    throw new CaretakerError('invalid_input', `--example: found "${example}", expected ${examples.join(' or ')}.`)
  const port = whole('--port', text(flags.port), 0, 65_535)
  const rows = whole('--rows', text(flags.rows), 200, 50_000_000)
  // A policy that cannot be used is said before anything is started; the example's own is known when the folder is.
  const asked = flags.config === undefined ? undefined : await loadPolicy(text(flags.config))
  const begun = performance.now()
  const stopping = listenForStop(out)
  let runtime: Runtime | undefined
  const stack = await startStack({
    purpose: 'caretaker up',
    dataDirectory: text(flags.data),
    example,
    port,
    rows,
    say: (line) => out.line(line),
    async app(environment, policyFile) {
      const log = createLog({
        level: process.env.LOG_LEVEL ?? 'info',
        destination: createWriteStream(join(dataOf(flags), 'caretaker.log'), { mode: 0o600 }),
      })
      const made = createRuntime({
        policy: atAddress(asked ?? (await loadPolicy(policyFile)), environment.PUBLIC_URL ?? ''),
        environment: { ...process.env, ...environment },
        log,
      })
      runtime = made
      const serve = serveRoutes(allRoutes(), (request) => made.context(request), recordRequests(made))
      return {
        handle: (request) => serve(request, invocationOf(request, made)),
        close: () => made.close(),
      }
    },
  })
  stopping.hasStarted(stack)
  if (runtime === undefined) throw new CaretakerError('internal', 'The stack started without its app.')
  const all = jobs(runtime.policy)
  const scheduler = startScheduler({
    jobs: all,
    clock: runtime.clock,
    fire: fireOverHttp(stack.url, stack.environment.CRON_SECRET ?? ''),
    onError: (name, error) => out.line(`The clock could not fire ${name}: ${error instanceof Error ? error.message : 'unknown'}`),
  })
  const followed = new AbortController()
  try {
    if (!stopping.asked.aborted) {
      const answer = await fetch(`${stack.url}/health`)
      const health = (await answer.json()) as HealthReport
      if (health.services === undefined)
        throw new CaretakerError('local_stack', `${stack.url}/health answers ${answer.status}; caretaker.log in the data folder says why.`)
      announce(out, stack, runtime, all, health, performance.now() - begun)
    }
    if (!stopping.asked.aborted) await showFirstRound(out, stack, runtime, stopping.asked)
    if (!stopping.asked.aborted) out.line(`${colour('bold', 'Runs')}  (Ctrl-C stops)`)
    const following = follow(out, runtime, followed.signal)
    await Promise.race([
      new Promise<void>((resolve) => whenAborted(stopping.asked, resolve)),
      stack.failed.then(() => Promise.reject(databaseEnded())),
    ])
    followed.abort()
    await following
  } finally {
    followed.abort()
    await scheduler.stop()
    await stack.stop()
    stopping.done()
  }
  out.line('Stopped.')
}

const databaseEnded = () =>
  new CaretakerError(
    'local_stack',
    'PostgreSQL ended by itself; postgres.log in the data folder says why. Start again: what was committed is kept.',
  )

/** The first Ctrl-C ends in order, the second at once: the next start recovers. */
function listenForStop(out: Output): { asked: AbortSignal; hasStarted(stack: Stack): void; done(): void } {
  const asked = new AbortController()
  let started: Stack | undefined
  let firstAt = 0
  const stop = () => {
    if (asked.signal.aborted) {
      // One Ctrl-C comes twice under npm: from the terminal, and passed on by npm.
      if (performance.now() - firstAt < sameKeyMs) return
      started?.kill()
      process.exit(130)
    }
    out.line(
      started === undefined
        ? '\nStopping as soon as it has started; press Ctrl-C again to stop at once.'
        : '\nStopping; press Ctrl-C again to stop at once.',
    )
    firstAt = performance.now()
    asked.abort()
  }
  process.on('SIGINT', stop)
  process.on('SIGTERM', stop)
  // Nobody reads any more (`| head`, a closed terminal): that is a Ctrl-C too, but never the second.
  const unread = () => asked.abort()
  process.stdout.on('error', unread)
  process.on('SIGHUP', unread)
  return {
    asked: asked.signal,
    hasStarted: (stack) => {
      started = stack
    },
    done: () => {
      process.off('SIGINT', stop)
      process.off('SIGTERM', stop)
      process.off('SIGHUP', unread)
    },
  }
}

function whenAborted(signal: AbortSignal, then: () => void): void {
  if (signal.aborted) then()
  else signal.addEventListener('abort', () => then(), { once: true })
}

function invocationOf(request: Request, runtime: Runtime) {
  const ms = new URL(request.url).pathname === '/api/worker' ? workerTimeMs : requestTimeMs
  return {
    clientAddress: request.headers.get('x-forwarded-for') ?? '127.0.0.1',
    deadline: new Date(runtime.clock.now().getTime() + ms),
    waitUntil: (work: Promise<unknown>) => {
      work.catch((error: unknown) => runtime.log.error({ err: error }, 'background work failed'))
    },
  }
}

const colour = (format: Parameters<typeof styleText>[0], line: string) =>
  process.stdout.isTTY && process.env.NO_COLOR === undefined && line !== '' ? styleText(format, line) : line

function announce(out: Output, stack: Stack, runtime: Runtime, all: readonly Job[], health: HealthReport, tookMs: number): void {
  const now = runtime.clock.now()
  const planned = all.map((job) => ({ job, next: job.schedule === null ? null : (nextSlots(job.schedule, now, 1)[0] ?? null) }))
  planned.sort((a, b) => (a.next?.getTime() ?? Infinity) - (b.next?.getTime() ?? Infinity))
  const folder = relative(process.cwd(), stack.dataDirectory)
  const shownFolder = folder === '' || folder.startsWith('..') ? stack.dataDirectory : folder
  const loaded = stack.rows === null ? 'kept from before' : `${stack.rows.toLocaleString('en')} rows, just loaded`
  const { port } = new URL(stack.environment.DATABASE_URL ?? 'postgres://localhost')
  const marks = { healthy: colour('green', '✓'), unhealthy: colour('red', '✗') } as Record<string, string>
  // Another folder has to be named to every command.
  const there = stack.dataDirectory === defaultDataDirectory ? '' : ` --data ${shownFolder}`
  const width = (names: string[]) => Math.max(...names.map((name) => name.length))
  const jobWidth = width(planned.map(({ job }) => job.name))
  const checkWidth = width(Object.keys(health.services))
  const cleanup = cleanupJob(runtime.policy)
  const lines = [
    '',
    `${colour('bold', `${runtime.policy.app.name} is being looked after`)}  (ready in ${duration(tookMs)})`,
    '',
    `  dashboard  ${stack.url}/ops`,
    `  sign in    ${stack.operatorKey}`,
    `  status     ${stack.url}/status`,
    `  health     ${stack.url}/health`,
    `  paths      ${stack.url}/openapi.json`,
    `  Supabase   ${stack.url}  (auth, rest, storage)`,
    `  database   127.0.0.1:${port}, database app: ${loaded}`,
    `  data       ${shownFolder}  (keys, log and backups; remove it to start over)`,
    `  identity   ${join(shownFolder, basename(identityFile(stack.dataDirectory)))}  (opens the backups)`,
    '',
    colour('bold', `Health: ${health.status}`),
    ...Object.entries(health.services).map(([name, service]) => {
      const mark = marks[service.status] ?? colour('yellow', '–')
      const critical = service.critical ? '  critical' : ''
      return `  ${mark} ${name.padEnd(checkWidth)}  ${service.cause === undefined ? `${service.status}, ${Math.round(service.response_time)} ms` : service.cause.replaceAll('_', ' ')}${critical}`
    }),
    '',
    colour('bold', 'Next firing of each job'),
    ...planned.map(({ job, next }) => {
      const when =
        next === null
          ? 'when work waits'.padEnd(37)
          : `${instant(next)}  in ${duration(Math.max(1_000, next.getTime() - now.getTime()))}`.padEnd(37)
      return `  ${job.name.padEnd(jobWidth)}  ${when}  ${colour('dim', job.schedule === null ? '' : `${job.schedule.cron} ${job.schedule.timezone}`)}`.trimEnd()
    }),
    '',
    colour('bold', 'Try, in another terminal'),
    `  curl -s ${stack.url.replace('http://', '')}/health`,
    `  npm run caretaker -- plan${there}`,
    ...(cleanup === undefined ? [] : [`  npm run caretaker -- jobs run ${cleanup}${there}`]),
    `  npm run caretaker -- backup run${there}`,
    `  npm run caretaker -- gdpr export ${firstPerson} --out person.zip${there}`,
    '',
  ]
  out.result(
    {
      url: stack.url,
      dashboard: `${stack.url}/ops`,
      operatorKey: stack.operatorKey,
      dataDirectory: stack.dataDirectory,
      example: stack.example,
      rowsLoaded: stack.rows,
      health,
      jobs: planned.map(({ job, next }) => ({ name: job.name, schedule: job.schedule, next })),
    },
    lines.join('\n'),
  )
}

/** Once a data folder: a round that was cut short is shown again, one that was seen to its end is not. */
async function showFirstRound(out: Output, stack: Stack, runtime: Runtime, signal: AbortSignal): Promise<void> {
  if (!(await firstRoundPending(stack))) return
  out.line(`\n${colour('bold', 'A first round')}  (from the restore on in the restored copy: your example stays as it is)`)
  await firstRound({
    stack,
    runtime,
    signal,
    onStep: ({ name, ok, sentence, ms }) =>
      out.line(`  ${ok ? colour('green', '✓') : colour('red', '✗')} ${name.padEnd(8)}  ${sentence}  ${colour('dim', `(${duration(ms)})`)}`),
  })
  out.line('')
}

function instant(at: Date): string {
  return `${at.toISOString().slice(0, 16).replace('T', ' ')} UTC`
}

/** One line a run that ends, until told to stop. */
async function follow(out: Output, runtime: Runtime, signal: AbortSignal): Promise<void> {
  const ctx = runtime.context({ actor: { type: 'system' }, signal, deadline: new Date(runtime.clock.now().getTime() + 365 * 86_400_000) })
  const since = runtime.clock.now()
  const told = new Set<string>()
  let wait = Promise.resolve()
  while (!signal.aborted) {
    const recent = await listRuns(ctx, { limit: 50 }).catch(() => [] as Run[])
    for (const run of recent.reverse()) {
      const key = `${run.id}:${run.state}:${run.attempt}`
      if (run.finished_at === null || run.finished_at < since || told.has(key)) continue
      told.add(key)
      out.line(runLine(run))
    }
    wait = new Promise((resolve) => {
      const timer = setTimeout(resolve, 1_000)
      whenAborted(signal, () => {
        clearTimeout(timer)
        resolve()
      })
    })
    await wait
  }
}

function runLine(run: Run): string {
  const at = run.finished_at?.toISOString().slice(11, 19) ?? ''
  const took = run.started_at === null || run.finished_at === null ? '' : duration(run.finished_at.getTime() - run.started_at.getTime())
  const outcome = run.state === 'failed' ? `${run.error?.code ?? ''} ${run.error?.detail ?? ''}` : summary(run.result ?? {})
  const mark = run.state === 'done' ? colour('green', '✓') : run.state === 'failed' ? colour('red', '✗') : colour('yellow', '–')
  const kind = run.kind === 'planned' ? '' : ` (${run.kind})`
  const columns = process.stdout.isTTY ? (process.stdout.columns ?? 120) : 200
  const line = `  ${at} ${mark} ${`${run.job}${kind}`.padEnd(28)} ${took.padStart(8)}  ${outcome}`
  return line.length > columns ? `${line.slice(0, columns - 1)}…` : line
}

/** The figures at the top of a result, and of its steps those that did something. */
function summary(result: Record<string, unknown>): string {
  const figures = (of: Record<string, unknown>) =>
    Object.entries(of).flatMap(([name, value]) =>
      typeof value === 'number' ? [`${value.toLocaleString('en')} ${name}`] : typeof value === 'string' ? [`${name} ${value}`] : [],
    )
  const { steps } = result
  if (!Array.isArray(steps)) return figures(result).join(', ')
  const parts = (steps as Record<string, unknown>[]).map(({ task, ...counted }) => {
    const [first] = figures(counted)
    return first === undefined ? String(task) : `${String(task)}: ${first}`
  })
  return parts.join(' · ')
}

function dataOf(flags: Invocation['flags']): string {
  return text(flags.data) ?? defaultDataDirectory
}

function text(value: string | boolean | string[] | undefined): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined
}

function whole(name: string, value: string | undefined, least: number, most: number): number | undefined {
  if (value === undefined) return undefined
  const number = Number(value)
  if (!/^\d+$/.test(value) || number < least || number > most)
    throw new CaretakerError('invalid_input', `${name}: found "${value}", expected a whole number from ${least} to ${most}.`)
  return number
}
