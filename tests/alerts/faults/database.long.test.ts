import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { listIncidents } from '../../../lib/alerts/index.ts'
import { type Database, openDatabase } from '../../../lib/platform/db.ts'
import { hasCode } from '../../../lib/platform/errors.ts'
import { applyMigrations } from '../../../lib/platform/migrations.ts'
import { runTick } from '../../../lib/routes/cron.ts'
import { type LocalPostgres, startPostgres } from '../../../local/postgres.ts'
import { doubles } from '../../support/doubles.ts'
import { startAgain } from '../../support/start-again.ts'
import { type Dependency, startDependency } from './dependency.ts'
import { type Operations, operations, steps } from './operations.ts'

let directory: string
let server: LocalPostgres
let db: Database
let dependency: Dependency

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'caretaker-faults-'))
  await chmod(directory, 0o711)
  server = await startPostgres({ directory: join(directory, 'd') })
  db = openDatabase({ sessionUrl: server.url() })
  await applyMigrations(db)
  dependency = await startDependency()
})
afterAll(async () => {
  await dependency.close()
  await db.close()
  await server.stop()
  const [cluster = ''] = (await readFile(join(directory, 'd', 'cluster.location'), 'utf8').catch(() => '')).split('\n')
  if (cluster !== '') await rm(cluster, { recursive: true, force: true })
  await rm(directory, { recursive: true, force: true })
})

/** The server dies, as it does without power. */
async function crash(): Promise<void> {
  server.kill()
  await server.ended
}

async function restart(): Promise<void> {
  server = await startAgain({ directory: join(directory, 'd'), port: server.port })
}

/** What the host's clock does every minute, without jobs. */
const tick = ({ ctx }: Operations) => runTick(ctx, [], () => Promise.resolve())

/** A minute without the database: the clock and every job fail, and say that it is for want of it. */
async function lostMinute(made: Operations): Promise<void> {
  const { ctx, clock } = made
  clock.advance(60_000)
  await expect(tick(made)).rejects.toMatchObject({ code: 'database_unavailable' })
  for (const [name, step] of Object.entries(steps)) {
    const failure = await step(ctx).then(
      () => undefined,
      (error: unknown) => error,
    )
    expect(hasCode(failure, 'database_unavailable'), `${name}: ${String(failure)}`).toBe(true)
  }
}

it('a database that dies and comes back loses nothing of what was known, and what broke meanwhile is told in the next minute', async () => {
  const made = operations(db, {
    health: {
      checks: {
        database: {},
        app: { kind: 'url', url: dependency.url, timeoutMs: 20_000 },
        search: { kind: 'url', url: `${dependency.url}search`, timeoutMs: 20_000, dependsOn: ['app'] },
      },
    },
  })
  doubles.use(...made.handlers)
  const said = async () => (await made.said()).filter((one) => !/Watching again|cannot be reached/.test(one))
  await made.minutes(2)

  // It breaks while nobody can note it.
  await crash()
  await dependency.set('failing')
  await lostMinute(made)
  await lostMinute(made)
  // Of the database itself people hear without it, once.
  const lost = 'database: cannot be reached'
  expect(made.slack.sent.map(({ text }) => text)).toEqual([expect.stringContaining(lost)])
  expect(pagerDutyStates(made)).toEqual(['triggered'])
  await restart()
  await tick(made)
  expect(made.slack.sent.at(-1)?.text).toContain('Watching again: the database can be reached')
  expect(pagerDutyStates(made)).toEqual(['resolved'])
  await made.minutes()
  expect(await said()).toEqual(['opened app'])

  // It is known to be over, and not yet told, when the server dies.
  await dependency.set('well')
  await made.minutes(5)
  made.clock.advance(60_000)
  await steps.look(made.ctx)
  await steps.judge(made.ctx)
  await crash()
  await expect(steps.tell(made.ctx)).rejects.toMatchObject({ code: 'database_unavailable' })
  expect(pagerDutyStates(made)).toEqual(['resolved', 'triggered'])
  await restart()
  await made.minutes(8)
  expect(await said()).toEqual(['opened app', 'resolved app'])
  expect(pagerDutyStates(made)).toEqual(['resolved', 'resolved'])
  expect(await listIncidents(made.ctx)).toMatchObject([{ number: 1, component: 'app', state: 'resolved' }])
})

it('a restart in the middle of everything is nothing but a pause', async () => {
  const made = operations(db, { health: { checks: { app: { kind: 'url', url: dependency.url, timeoutMs: 20_000 } } } })
  doubles.use(...made.handlers)
  await dependency.set('well')
  await made.minutes()
  await dependency.set('failing')
  made.clock.advance(60_000)
  // It dies while all of them are at it.
  const working = Promise.allSettled(Object.values(steps).map((step) => step(made.ctx)))
  await crash()
  for (const outcome of await working)
    if (outcome.status === 'rejected') expect(hasCode(outcome.reason, 'database_unavailable'), String(outcome.reason)).toBe(true)
  await restart()
  await made.minutes(2)
  await dependency.set('well')
  await made.minutes(8)
  expect((await made.said()).filter((one) => !one.includes('Watching again'))).toEqual(['opened app', 'resolved app'])
  expect(await listIncidents(made.ctx)).toHaveLength(1)
})

/** How PagerDuty has the incidents of causes. */
function pagerDutyStates({ pagerDuty }: Operations): string[] {
  return pagerDuty.incidents.map(({ state }) => state)
}
