import { randomBytes } from 'node:crypto'
import { access, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { pathToFileURL } from 'node:url'
import { jobs } from '../lib/catalog.ts'
import { createRuntime, type Runtime } from '../lib/compose.ts'
import type { Policy } from '../lib/config/index.ts'
import { claimManually, findRun, type Run, work } from '../lib/jobs/index.ts'
import type { Context } from '../lib/platform/context.ts'
import { type Database, openDatabase } from '../lib/platform/db.ts'
import { CaretakerError } from '../lib/platform/errors.ts'
import { firstPerson } from './example.ts'
import { type Calls, countCalls, deliverThreeTimes, paidInvoice, type SignedEvent, textMessage } from './first-round-webhooks.ts'
import { identityFile } from './secrets.ts'
import type { Stack } from './stack.ts'

export interface FirstRoundOptions {
  stack: Stack
  runtime: Runtime
  signal: AbortSignal
  /** One step that ended: what was done, in a sentence, and how long it took. */
  onStep: (step: { name: string; ok: boolean; sentence: string; ms: number }) => void
}

const copyName = 'first_round'
/** Nobody's account: the copy's own, for as long as the round takes. */
const twilioToken = randomBytes(16).toString('hex')
const marker = (stack: Stack) => join(stack.dataDirectory, 'first-round.done')
/** The copy's own object store: who is erased there is not erased in the example. */
const copyStore = (stack: Stack) => join(stack.dataDirectory, 'first-round')

/** False once a round was seen to its end. */
export async function firstRoundPending(stack: Stack): Promise<boolean> {
  return access(marker(stack)).then(
    () => false,
    () => true,
  )
}

/** The job that cleans up: the app's first one with retention rules, or the one of all rules; undefined where there are none. */
export function cleanupJob({ jobs: own = {}, retention = [] }: Policy): string | undefined {
  const [first] = Object.entries(own).find(([, job]) => job.steps.some((step) => 'retention' in step)) ?? []
  return first ?? (retention.length > 0 ? 'retention' : undefined)
}

/**
 * Does once, in front of a newcomer, what Caretaker is for: a backup of the example, proven by a restore; then, in the
 * restored copy so that the example stays untouched, a cleanup, one person exported and erased, and one event of Stripe
 * or Twilio that is delivered three times and applied once; of these, what the policy has a part for. Never throws: a step that
 * fails says so, and the round ends there.
 */
export async function firstRound({ stack, runtime, signal, onStep }: FirstRoundOptions): Promise<void> {
  const { clock } = runtime
  const urlOf = (database: string) => (stack.environment.DATABASE_URL ?? '').replace(/\/[^/]*$/, `/${database}`)
  const admin = openDatabase({ sessionUrl: urlOf('postgres'), maxConnections: 1 })
  let copy: Runtime | undefined
  let backup = 'latest'
  const ctx = contextOf(runtime, signal)
  const inCopy = (): Context => {
    if (copy === undefined) throw new CaretakerError('internal', 'The copy is used before it was restored.')
    return contextOf(copy, signal)
  }
  const { policy } = runtime
  const cleanup = cleanupJob(policy)
  const calls = { count: 0 }
  const { stripe, twilio } = policy.webhooks ?? {}
  const deliver = (event: SignedEvent) => deliverThreeTimes(inCopy(), copy as Runtime, event, calls, () => runJob(inCopy(), 'webhooks'))
  const steps: [name: string, step: () => Promise<string>, on: boolean][] = [
    [
      'back up',
      async () => {
        // Not as a job: one that was killed keeps the next waiting until it is known to be dead.
        const { backupDatabase, noteLoss } = await import('../lib/backup/index.ts')
        const report = await backupDatabase(ctx)
        await noteLoss(ctx)
        backup = report.id
        return backupSentence(report)
      },
      true,
    ],
    [
      'restore',
      async () => {
        await recreate(admin)
        const { restoreBackup } = await import('../lib/backup/index.ts')
        const identity = await readFile(identityFile(stack.dataDirectory), 'utf8')
        const report = await restoreBackup(ctx, { id: backup, identity, targetUrl: urlOf(copyName) })
        copy = await openCopy(stack, runtime, urlOf(copyName), calls)
        return `${report.rows.toLocaleString('en')} rows of ${report.tables.length} tables came back, each table equal by SHA-256`
      },
      true,
    ],
    ['clean up', async () => cleanupSentence(await runJob(inCopy(), cleanup ?? '')), cleanup !== undefined],
    ['export', () => exportSomebody(inCopy()), policy.gdpr !== undefined],
    ['erase', () => eraseSomebody(inCopy()), policy.gdpr !== undefined],
    [
      'Stripe',
      async () => {
        await deliver(paidInvoice(stack.environment.STRIPE_WEBHOOK_SECRET ?? '', clock.now()))
        return 'one signed event delivered three times, one payment booked'
      },
      stripe?.on?.['invoice.paid'] !== undefined,
    ],
    [
      'Twilio',
      async () => {
        await deliver(textMessage(twilioToken, stack.environment.PUBLIC_URL ?? ''))
        return 'one signed text message delivered three times, one reply kept'
      },
      twilio?.on?.['message.received'] !== undefined,
    ],
  ]
  try {
    for (const [name, step, on] of steps) {
      if (signal.aborted) return
      if (!on) continue
      const started = clock.monotonicMs()
      const took = () => clock.monotonicMs() - started
      try {
        onStep({ name, ok: true, sentence: await step(), ms: took() })
      } catch (error) {
        if (!signal.aborted)
          onStep({
            name,
            ok: false,
            sentence: error instanceof Error ? error.message : 'something that is not an error was thrown',
            ms: took(),
          })
        return
      }
    }
  } finally {
    await copy?.close()
    await admin.execute(`drop database if exists ${copyName} with (force)`).catch(() => undefined)
    await admin.close()
    await rm(copyStore(stack), { recursive: true, force: true })
    if (!signal.aborted) await writeFile(marker(stack), '')
  }
}

function contextOf(runtime: Runtime, signal: AbortSignal): Context {
  return runtime.context({ actor: { type: 'cli' }, signal, deadline: new Date(runtime.clock.now().getTime() + 15 * 60_000) })
}

async function recreate(admin: Database): Promise<void> {
  await admin.execute(`drop database if exists ${copyName} with (force)`)
  await admin.execute(`create database ${copyName} template template0`)
}

/** A runtime over the copy, without Supabase: its users are rows there, and must not be looked for in the example's Auth. */
async function openCopy(stack: Stack, runtime: Runtime, url: string, calls: Calls): Promise<Runtime> {
  const { SUPABASE_URL: _url, SUPABASE_SERVICE_ROLE_KEY: _key, ...environment } = stack.environment
  const store = pathToFileURL(copyStore(stack)).href
  const policy = countCalls(runtime.policy, calls)
  const copy = createRuntime({
    policy,
    environment: { ...environment, DATABASE_URL: url, TWILIO_AUTH_TOKEN: twilioToken },
    store,
    log: runtime.log,
  })
  // The ledger came along with the backup; its open runs are the example's to finish, not the copy's.
  const { db } = copy.context({ actor: { type: 'cli' }, deadline: runtime.clock.now() })
  await db.execute('truncate caretaker.runs')
  await db.execute('drop schema if exists pgboss cascade')
  return copy
}

async function runJob(ctx: Context, job: string): Promise<Run> {
  const all = jobs(ctx.config)
  const { id } = await claimManually(ctx, job)
  await work(ctx, all, { until: id })
  const run = await findRun(ctx.db, id)
  if (run === null || run.state !== 'done') throw new CaretakerError('job_failed', run?.error?.detail ?? `The job ${job} did not end.`)
  return run
}

function backupSentence({ rows, storedBytes, encrypted }: { rows: number; storedBytes: number; encrypted: boolean }): string {
  return `${rows.toLocaleString('en')} rows in one snapshot, ${(storedBytes / 1e6).toFixed(1)} MB${encrypted ? ', encrypted with age' : ''}`
}

/** The three rules that did most, and how many more there were. */
function cleanupSentence({ result }: Run): string {
  const steps = (result?.steps ?? []) as { task: string; rows?: number }[]
  const done = steps.flatMap(({ task, rows }) => (rows === undefined ? [] : [{ task, rows }])).sort((a, b) => b.rows - a.rows)
  const parts = done.slice(0, 3).map(({ task, rows }) => `${task}: ${rows.toLocaleString('en')} rows`)
  if (done.length > 3)
    parts.push(
      `${done.length - 3} more: ${done
        .slice(3)
        .reduce((sum, { rows }) => sum + rows, 0)
        .toLocaleString('en')} rows`,
    )
  return `${parts.join(', ')}${steps.some(({ task }) => task.startsWith('vacuum ')) ? ', then vacuumed' : ''}`
}

async function exportSomebody(ctx: Context): Promise<string> {
  const { exportSubject } = await import('../lib/gdpr/index.ts')
  const out = new Writable({ write: (_chunk, _encoding, done) => done() })
  const exported = await exportSubject(ctx, { subject: firstPerson, out })
  const tables = exported.tables.filter((table) => table.rows > 0)
  return `everything of one person: ${exported.rows.toLocaleString('en')} rows of ${tables.length} tables in a ZIP of ${(exported.bytes / 1e3).toFixed(0)} kB`
}

async function eraseSomebody(ctx: Context): Promise<string> {
  const { eraseSubject } = await import('../lib/gdpr/index.ts')
  const outcome = await eraseSubject(ctx, { subject: firstPerson })
  if (outcome.status !== 'erased') throw new CaretakerError('conflict', 'The person was erased before.')
  const { deleted, anonymised, kept } = outcome.receipt
  const rowsOf = (tables: readonly { rows: number }[]) => tables.reduce((sum, { rows }) => sum + rows, 0)
  const parts = [`${rowsOf(deleted).toLocaleString('en')} rows deleted`]
  if (rowsOf(anonymised) > 0) parts.push(`${rowsOf(anonymised).toLocaleString('en')} made anonymous`)
  for (const { table, rows, basis, until } of kept) if (rows > 0) parts.push(`${rows} of ${table} kept for ${basis} until ${until}`)
  return `that person: ${parts.join(', ')}, receipt signed`
}
