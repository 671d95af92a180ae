import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { jobs } from '../../lib/catalog.ts'
import { createRuntime } from '../../lib/compose.ts'
import { claimManually, findRun, work } from '../../lib/jobs/index.ts'
import { createLog } from '../../lib/platform/log.ts'
import { atAddress } from '../../local/at-address.ts'
import { installExample } from '../../local/example.ts'
import { readStack } from '../../local/stack.ts'
import { createTestDatabase } from '../support/database.ts'
import { policies, schedulesOf } from './policies.ts'

const main = fileURLToPath(new URL('../../cli/main.ts', import.meta.url))
let directory: string
let child: ChildProcess | undefined

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'caretaker-example-'))
  await chmod(directory, 0o711)
})
afterEach(async () => {
  if (child?.exitCode === null && child.signalCode === null) {
    // In order, so that its PostgreSQL ends with it.
    child.kill('SIGINT')
    await once(child, 'exit')
  }
  child = undefined
  await rm(directory, { recursive: true, force: true })
})

interface Ready {
  url: string
  health: { status: string; services: Record<string, { status: string }> }
  jobs: { name: string; schedule: { cron: string } | null }[]
}

/** Starts the example, and waits until everything is up and the first round was seen to its end. */
async function up(name: string): Promise<{ ready: Ready; shown: string }> {
  const started = spawn(process.execPath, [main, 'up', '--json', '--example', name, '--data', data(), '--port', '0', '--rows', '2000'], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: process.env.PATH },
  })
  child = started
  let stdout = ''
  let stderr = ''
  const complete = Promise.withResolvers<void>()
  started.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString()
  })
  started.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString()
    if (stderr.includes('(Ctrl-C stops)')) complete.resolve()
  })
  started.once('close', (code) => complete.reject(new Error(`ended with ${String(code)}: ${stdout}${stderr}`)))
  await complete.promise
  return { ready: JSON.parse(stdout) as Ready, shown: stderr }
}

const data = () => join(directory, 'd')

function caretaker(...words: string[]): { code: number | null; result: unknown } {
  const run = spawnSync(process.execPath, [main, ...words, '--json', '--data', data()], {
    encoding: 'utf8',
    env: { PATH: process.env.PATH },
  })
  return { code: run.status, result: JSON.parse(run.stdout) }
}

describe('a new example', () => {
  it.each([
    ['canai', 200_000],
    ['guide', 20_000],
  ])('%s has about %i rows unless told otherwise', async (name, wanted) => {
    const database = await createTestDatabase({ template: 'template0' })
    try {
      const rows = await installExample(database.db, name)
      const own = Object.entries(rows).reduce((sum, [table, count]) => (table.includes('.') ? sum : sum + count), 0)
      expect(Math.abs(own / wanted - 1)).toBeLessThan(0.1)
    } finally {
      await database.drop()
    }
  })
})

describe.each(Object.entries(policies))('npm start -- --example %s', (name, policy) => {
  it('looks after it: health, a first round, its plan, and a run of every job', async () => {
    const { ready, shown } = await up(name)
    expect(ready.health.status).toBe('healthy')
    expect((await fetch(`${ready.url}/health`)).status).toBe(200)
    for (const planned of Object.entries(schedulesOf[name] ?? {}))
      expect(ready.jobs.map((job) => [job.name, job.schedule?.cron])).toContainEqual(planned)

    expect(shown).not.toContain('✗')
    const { stripe, twilio } = policy.webhooks ?? {}
    const steps = [
      ...['back up', 'restore', 'clean up', 'export', 'erase'],
      ...(stripe === undefined ? [] : ['Stripe']),
      ...(twilio === undefined ? [] : ['Twilio']),
    ]
    expect([...shown.matchAll(/✓ (.{8}) {2}/g)].map(([, step]) => step?.trim())).toEqual(steps)

    const plan = caretaker('plan')
    const { issues, jobs: planned } = plan.result as { issues: unknown[]; jobs: { lines: { warnings?: string[] }[] }[] }
    expect([plan.code, issues]).toEqual([0, []])
    const warnings = planned.flatMap(({ lines }) => lines.flatMap((line) => line.warnings ?? []))
    // That rows hang from others is as it should be, and nobody has an account with Stripe, Slack or a pager here.
    expect(warnings.filter((warning) => !/refer to it|^STRIPE_SECRET_KEY is not set|^The channel "[a-z-]+" needs /.test(warning))).toEqual(
      [],
    )
    expect(caretaker('gdpr', 'lint').code).toBe(0)

    const stack = await readStack({ dataDirectory: data(), say: () => undefined })
    const runtime = createRuntime({
      policy: atAddress(policy, ready.url),
      environment: stack.environment,
      log: createLog({ level: 'silent' }),
    })
    try {
      const all = jobs(runtime.policy)
      for (const job of all) {
        const ctx = runtime.context({ actor: { type: 'cli' }, deadline: new Date(Date.now() + 120_000) })
        const { id } = await claimManually(ctx, job.name)
        await work(ctx, all, { until: id })
        const run = await findRun(ctx.db, id)
        expect([job.name, run?.state, run?.error]).toEqual([job.name, 'done', null])
      }
    } finally {
      await runtime.close()
      await stack.close()
    }
  })
})
