import { type AlertSources, type CheckObservation, type Figure, listNotifications } from '../../lib/alerts/index.ts'
import { defineConfig, type PolicyInput } from '../../lib/config/index.ts'
import { fixedClock } from '../../lib/platform/clock.ts'
import type { Context } from '../../lib/platform/context.ts'
import type { Database } from '../../lib/platform/db.ts'
import { readEnv } from '../../lib/platform/env.ts'
import { testContext, testEncryptionKey } from '../support/context.ts'

/*
 * Everything that alerts look at, as a test says it is: which checks are down, what the figures are, which job ended well.
 */

export interface World {
  down: Map<string, string>
  /** Checks that nobody could tell anything of. */
  unknown: Set<string>
  checks: string[]
  critical: Set<string>
  figures: Map<string, Figure[] | Error>
  maintenance: { title: string; components: readonly string[] | 'all' }[]
  /** Windows of a time that is past, for a replay. */
  pastMaintenance: Awaited<ReturnType<AlertSources['maintenanceBetween']>>
  tree: Map<string, readonly string[]>
  /** Checks that do not reach over the internet. */
  near: Set<string>
  done: Map<string, Date>
  /** What figures and checks were, for a replay. */
  past: Awaited<ReturnType<AlertSources['measureSeries']>>
  changes: Awaited<ReturnType<AlertSources['healthChanges']>>
  /** Health itself cannot be told. */
  blind: boolean
}

export function newWorld(checks: string[] = ['database', 'supabase', 'supabase-auth', 'stripe', 'jobs', 'backup']): World {
  return {
    down: new Map(),
    unknown: new Set(),
    checks,
    critical: new Set(['database']),
    figures: new Map(),
    maintenance: [],
    pastMaintenance: [],
    tree: new Map([
      ['supabase-auth', ['supabase']],
      ['jobs', ['database']],
      ['backup', ['database']],
    ]),
    near: new Set(['database', 'jobs', 'backup']),
    done: new Map(),
    past: [],
    changes: [],
    blind: false,
  }
}

export function sourcesOf(world: World): AlertSources {
  return {
    health: (ctx) => {
      if (world.blind) return Promise.reject(new Error('health cannot be told'))
      const at = ctx.clock.now()
      return Promise.resolve(
        world.checks.map((check): CheckObservation => {
          const cause = world.down.get(check) ?? null
          const status = world.unknown.has(check) ? 'unknown' : cause === null ? 'up' : 'down'
          return { check, component: check, critical: world.critical.has(check), status, cause, since: at, at }
        }),
      )
    },
    measure: (_ctx, query) => {
      const figures = world.figures.get(query.metric)
      return figures instanceof Error ? Promise.reject(figures) : Promise.resolve(figures ?? [])
    },
    maintenanceAt: () => Promise.resolve(world.maintenance),
    maintenanceBetween: () => Promise.resolve(world.pastMaintenance),
    dependencyTree: () => Promise.resolve(world.tree),
    remoteChecks: () => Promise.resolve(new Set(world.checks.filter((check) => !world.near.has(check)))),
    jobsDone: (_ctx, jobs) => Promise.resolve(new Map([...world.done].filter(([job]) => jobs.includes(job)))),
    words: (cause) => Promise.resolve(`is in trouble (${cause})`),
    measureSeries: () => Promise.resolve(world.past),
    healthChanges: () => Promise.resolve(world.changes),
  }
}

/** A context in an environment of its own, so that tests share one database; and a clock that is moved by minutes. */
export function alertContext(
  db: Database,
  alerts: PolicyInput['alerts'] = {},
  more: Partial<PolicyInput> = {},
  env: Record<string, string> = {},
) {
  const clock = fixedClock('2026-11-21T12:00:00Z')
  const ctx: Context = testContext(db, {
    clock,
    config: defineConfig({ app: { name: 'Shop', url: 'https://shop.test' }, alerts, ...more }),
    env: readEnv({
      ENCRYPTION_KEY: testEncryptionKey,
      CARETAKER_ENVIRONMENT: `test-${Math.random().toString(36).slice(2)}`,
      PUBLIC_URL: 'https://ops.shop.test',
      SLACK_WEBHOOK_URL: 'https://hooks.slack.com/services/T0/B0/secret',
      PAGERDUTY_ROUTING_KEY: '0123456789abcdef0123456789abcdef',
      OPSGENIE_API_KEY: 'eb243592-faa2-4ba2-a551-1afdf565c889',
      SENDGRID_API_KEY: 'SG.key-of-the-test',
      SENDGRID_FROM_EMAIL: 'ops@shop.test',
      ...env,
    }),
    deadline: new Date('2028-01-01T00:00:00Z'),
  })
  return { ctx, minutes: (count: number) => clock.advance(count * 60_000) }
}

/** The incidents of the environment, in order. */
export function incidentsOf({ db, env }: Context) {
  return db.query<{ component: string; severity: string; title: string; affected: string[]; open: boolean }>(
    `select component, severity, title, affected, state <> 'resolved' as open from caretaker.incidents where environment = $1 order by number`,
    [env.CARETAKER_ENVIRONMENT],
  )
}

/** "opened stripe": what people are told, in order. */
export async function toldIn(ctx: Context): Promise<string[]> {
  return (await listNotifications(ctx)).map(({ kind, payload }) => `${kind} ${payload.component}`).reverse()
}
