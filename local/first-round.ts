import { createHmac, randomBytes } from 'node:crypto'
import { access, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { pathToFileURL } from 'node:url'
import { jobs } from '../lib/catalog.ts'
import { createRuntime, type Runtime } from '../lib/compose.ts'
import { serveRoutes } from '../lib/http/index.ts'
import { claimManually, findRun, type Run, work } from '../lib/jobs/index.ts'
import type { Context } from '../lib/platform/context.ts'
import { type Database, openDatabase } from '../lib/platform/db.ts'
import { CaretakerError } from '../lib/platform/errors.ts'
import { webhooks } from '../lib/routes/webhooks.ts'
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

/**
 * Does once, in front of a newcomer, what Caretaker is for: a backup of the example, proven by a restore; then, in the
 * restored copy so that the example stays untouched, a cleanup, one person exported and erased, and one Stripe event
 * that is delivered three times and applied once. Never throws: a step that fails says so, and the round ends there.
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
  const steps: [string, () => Promise<string>][] = [
    [
      'back up',
      async () => {
        // Not as a job: one that was killed keeps the next waiting until it is known to be dead.
        const { backupDatabase } = await import('../lib/backup/index.ts')
        const report = await backupDatabase(ctx)
        backup = report.id
        return backupSentence(report)
      },
    ],
    [
      'restore',
      async () => {
        await recreate(admin)
        const { restoreBackup } = await import('../lib/backup/index.ts')
        const identity = await readFile(identityFile(stack.dataDirectory), 'utf8')
        const report = await restoreBackup(ctx, { id: backup, identity, targetUrl: urlOf(copyName) })
        copy = await openCopy(stack, runtime, urlOf(copyName))
        return `${report.rows.toLocaleString('en')} rows of ${report.tables.length} tables came back, each table equal by SHA-256`
      },
    ],
    ['clean up', async () => cleanupSentence(await runJob(inCopy(), 'daily-cleanup'))],
    ['export', () => exportSomebody(inCopy())],
    ['erase', () => eraseSomebody(inCopy())],
    ['Stripe', () => payThreeTimes(inCopy(), stack.environment.STRIPE_WEBHOOK_SECRET ?? '', copy as Runtime)],
  ]
  try {
    for (const [name, step] of steps) {
      if (signal.aborted) return
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
async function openCopy(stack: Stack, runtime: Runtime, url: string): Promise<Runtime> {
  const { SUPABASE_URL: _url, SUPABASE_SERVICE_ROLE_KEY: _key, ...environment } = stack.environment
  const store = pathToFileURL(copyStore(stack)).href
  const copy = createRuntime({ policy: runtime.policy, environment: { ...environment, DATABASE_URL: url }, store, log: runtime.log })
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

function cleanupSentence({ result }: Run): string {
  const steps = (result?.steps ?? []) as { task: string; rows?: number }[]
  const done = steps.flatMap(({ task, rows }) => (rows === undefined ? [] : [`${task}: ${rows.toLocaleString('en')} rows`]))
  return `${done.join(', ')}, then vacuumed`
}

async function somebody(ctx: Context): Promise<string> {
  const [row] = await ctx.db.query<{ id: string }>(
    'select user_id::text as id from payment_logs where user_id is not null group by 1 order by count(*) desc, 1 limit 1',
  )
  if (row === undefined) throw new CaretakerError('subject_not_found', 'The copy holds nobody.')
  return row.id
}

async function exportSomebody(ctx: Context): Promise<string> {
  const { exportSubject } = await import('../lib/gdpr/index.ts')
  const out = new Writable({ write: (_chunk, _encoding, done) => done() })
  const exported = await exportSubject(ctx, { subject: await somebody(ctx), out })
  const tables = exported.tables.filter((table) => table.rows > 0)
  return `everything of one person: ${exported.rows.toLocaleString('en')} rows of ${tables.length} tables in a ZIP of ${(exported.bytes / 1e3).toFixed(0)} kB`
}

async function eraseSomebody(ctx: Context): Promise<string> {
  const { eraseSubject } = await import('../lib/gdpr/index.ts')
  const outcome = await eraseSubject(ctx, { subject: await somebody(ctx) })
  if (outcome.status !== 'erased') throw new CaretakerError('conflict', 'The person was erased before.')
  const { deleted, kept } = outcome.receipt as unknown as {
    deleted: { rows: number }[]
    kept: { table: string; rows: number; basis: string; until: string }[]
  }
  const gone = deleted.reduce((sum, table) => sum + table.rows, 0)
  const stays = kept.map((table) => `${table.rows} of ${table.table} kept for ${table.basis} until ${table.until}`)
  return `that person: ${gone.toLocaleString('en')} rows deleted${stays.length === 0 ? '' : `, ${stays.join(', ')}`}, receipt signed`
}

/** A provider repeats itself; the money must be booked once. */
async function payThreeTimes(ctx: Context, secret: string, runtime: Runtime): Promise<string> {
  const invoice = `in_first_round_${randomBytes(4).toString('hex')}`
  const seconds = Math.floor(ctx.clock.now().getTime() / 1000)
  const body = JSON.stringify({
    id: `evt_${invoice}`,
    object: 'event',
    type: 'invoice.paid',
    created: seconds,
    data: {
      object: {
        id: invoice,
        object: 'invoice',
        customer: null,
        amount_paid: 4900,
        currency: 'usd',
        status_transitions: { paid_at: seconds },
      },
    },
  })
  const signature = createHmac('sha256', secret).update(`${seconds}.${body}`).digest('hex')
  const handle = serveRoutes(webhooks({ wake: () => Promise.resolve() }), (request) => runtime.context(request))
  const invocation = { clientAddress: '127.0.0.1', deadline: ctx.deadline, waitUntil: () => undefined }
  for (let time = 0; time < 3; time++) {
    const request = new Request('http://localhost/api/webhooks/stripe', {
      method: 'POST',
      body,
      headers: { 'stripe-signature': `t=${seconds},v1=${signature}` },
    })
    const response = await handle(request, invocation)
    if (response.status !== 200) throw new CaretakerError('signature_invalid', `The event was answered with ${response.status}.`)
  }
  await runJob(ctx, 'webhooks')
  const [row] = await ctx.db.query<{ n: number }>('select count(*)::int as n from payment_logs where stripe_invoice_id = $1', [invoice])
  if (row?.n !== 1) throw new CaretakerError('conflict', `The payment was booked ${row?.n} times.`)
  return 'one signed event delivered three times, one payment booked'
}
