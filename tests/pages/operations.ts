import { acknowledgeIncident, addNote, checkItem, openIncident, resolveIncident, silence, updateIncident } from '../../lib/alerts/index.ts'
import { defineConfig } from '../../lib/config/index.ts'
import { scheduleMaintenance } from '../../lib/health/index.ts'
import { keyHash } from '../../lib/http/index.ts'
import { claimManually } from '../../lib/jobs/index.ts'
import { Batch } from '../../lib/metrics/batch.ts'
import { storeBatch } from '../../lib/metrics/store-batch.ts'
import { type Role, roles } from '../../lib/platform/actor.ts'
import type { Context } from '../../lib/platform/context.ts'

/** Text of others that must never become markup. */
export const hostile = `<script>alert('x')</script>"'&`

export const policy = defineConfig({
  app: { name: `Shop ${hostile}`, timezone: 'Europe/Berlin' },
  health: { checks: { database: {}, stripe: {}, homepage: { kind: 'url', url: 'https://shop.example' } } },
  backup: { encryption: 'none' },
  jobs: { sweep: { description: `Sweeps ${hostile}`, schedule: '0 2 * * *', steps: [{ sql: 'select 1' }] } },
  webhooks: { subscribers: { partner: { url: 'https://partner.example/hook', events: ['order.paid'] } } },
  alerts: { channels: { slack: {} } },
})

export const keyOf = (role: Role) => `ck_${role.padEnd(43, 'x')}`

export interface Operations {
  incident: string
  resolved: string
  event: string
  delivery: string
  request: string
  run: string
  failedRun: string
  silence: string
  window: string
}

/** An app on a bad day: something of everything that the pages show. */
export async function badDay(given: Context): Promise<Operations> {
  const ctx: Context = { ...given, actor: { type: 'cli' } }
  const { db } = ctx
  const now = ctx.clock.now()
  const ago = (minutes: number) => new Date(now.getTime() - minutes * 60_000)
  const one = async (sql: string, params: unknown[] = []) => {
    const [row] = await db.query<{ id: string }>(sql, params)
    return row?.id ?? ''
  }
  for (const role of roles)
    await db.execute('insert into caretaker.api_keys (name, role, hash) values ($1, $2, $3::bytea)', [
      role === 'admin' ? `admin ${hostile}` : role,
      role,
      keyHash(keyOf(role)),
    ])
  for (const [check, status, cause] of [
    ['database', 'up', null],
    ['stripe', 'down', 'timeout'],
    ['homepage', 'unknown', 'not_configured'],
  ])
    await db.execute(
      `with state as (insert into caretaker.health_states (environment, check_name, status, cause, since, looked_at, valid_until, duration_ms)
         values ('development', $1, $2, $3, $4::timestamptz, $5::timestamptz, $6::timestamptz, 42))
       insert into caretaker.health_changes (environment, check_name, at, status, cause) values ('development', $1, $4::timestamptz, $2, $3)`,
      [check, status, cause, ago(90), ago(1), new Date(now.getTime() + 600_000)],
    )
  // Ninety days for the status page: a bad hour here, an unknown day there.
  await db.execute(
    `insert into caretaker.health_days (environment, check_name, day, up_s, down_s, maintenance_s, unknown_s, looks, p50_ms, p95_ms, rolled_at)
     select 'development', name, (now() at time zone 'utc')::date - ago,
       86400 - down - quiet - 300 * (ago % 30 = 0)::int, down, 300 * (ago % 30 = 0)::int, quiet, 1440, 20 + ago % 7, 60 + ago % 11, now()
     from unnest(array['', 'database', 'stripe']) name, generate_series(1, 80) ago,
       lateral (select case when name = 'stripe' and ago % 23 = 0 then 5400 else 0 end as down, case when ago = 41 then 40000 else 0 end as quiet) of_it`,
  )
  const incident = await openIncident(ctx, {
    title: `Payments fail ${hostile}`,
    severity: 'P0',
    component: 'stripe',
    message: `We look ${hostile}`,
  })
  await addNote(ctx, { incident: incident.id, note: `Their page says so ${hostile}` })
  const resolved = await openIncident(ctx, { title: 'Slow pages', severity: 'P2' })
  await acknowledgeIncident(ctx, { incident: resolved.id })
  await checkItem(ctx, { incident: resolved.id, item: 1 })
  await updateIncident(ctx, { incident: resolved.id, state: 'identified', message: 'An index was missing.' })
  await resolveIncident(ctx, { incident: resolved.id, rootCause: `A migration ${hostile}` })
  const quiet = await silence(ctx, { matcher: 'component=openai', forMs: 3_600_000, reason: `Known ${hostile}` })
  await db.execute(
    `insert into caretaker.alerts (environment, rule, labels, source, component, severity, state, step, summary, cause, since, fired_at, evaluated_at)
     values ('development', 'check-stripe', $1::jsonb, 'check', 'stripe', 'P0', 'firing', '{}', $2, 'timeout', $3::timestamptz, $3::timestamptz, $3::timestamptz)`,
    [JSON.stringify({ region: hostile }), `stripe is down ${hostile}`, ago(88)],
  )
  const window = await scheduleMaintenance(ctx, {
    title: `Move ${hostile}`,
    body: `Pages may be slow ${hostile}`,
    startsAt: new Date(now.getTime() + 86_400_000),
    endsAt: new Date(now.getTime() + 90_000_000),
  })
  const run = await claimManually(ctx, 'sweep')
  await db.execute(
    `update caretaker.runs set state = 'done', attempt = 1, started_at = queued_at, finished_at = queued_at + interval '3 seconds', result = $2::jsonb where id = $1::uuid`,
    [run.id, JSON.stringify({ rows: 12_345, note: hostile })],
  )
  const failedRun = await one(
    `insert into caretaker.runs (job, slot, actor, state, attempt, error, started_at, finished_at)
     values ('backup', $1::timestamptz, '{"type":"system"}', 'failed', 1, $2::jsonb, $1::timestamptz, $1::timestamptz + interval '1 minute') returning id::text`,
    [ago(300), JSON.stringify({ code: 'object_store_failed', detail: `The store said ${hostile}` })],
  )
  await db.execute(
    `insert into caretaker.backup_coverage (covered_until, open_again_ms, drilled_at) values ($1::timestamptz, 480000, $2::timestamptz)`,
    [ago(47), ago(4_000)],
  )
  const event = await one(
    `insert into caretaker.inbox (source, event_id, type, occurred_at, received_at, payload, state, attempts, error)
     values ('stripe', 'evt_1', $1, $2::timestamptz, $2::timestamptz, '\\x01', 'dead', 12, '{"code":"handler_failed"}') returning id::text`,
    [`invoice.paid ${hostile}`, ago(200)],
  )
  await db.execute(`insert into caretaker.messages (id, type, at, payload) values ('msg_1', $1, $2::timestamptz, '\\x01')`, [
    `order.paid ${hostile}`,
    ago(100),
  ])
  const delivery = await one(
    `insert into caretaker.deliveries (message_id, subscriber, state, attempts, created_at, status, error)
     values ('msg_1', 'partner', 'dead', 12, $1::timestamptz, 500, '{"code":"upstream_failed"}') returning id::text`,
    [ago(100)],
  )
  const request = await one(
    `insert into caretaker.gdpr_requests (kind, state, subject, subject_hash, requested_by, received_at, due_at, verified_by, review)
     values ('erase', 'verified', 'x', 'f00d', '{"type":"subject","id":"x"}', $1::timestamptz, $2::timestamptz, 'token', 'needed') returning id::text`,
    [ago(27 * 1_440), new Date(now.getTime() + 3.5 * 86_400_000)],
  )
  await storeBatch(db, 'development', requestsOf(now), { now })
  return {
    incident: incident.id,
    resolved: resolved.id,
    event,
    delivery,
    request,
    run: run.id,
    failedRun,
    silence: quiet.id,
    window: window.id,
  }
}

/** An hour of requests, of which some failed. */
function requestsOf(now: Date): Batch {
  const batch = new Batch()
  for (let minute = 1; minute < 60; minute++) {
    const at = new Date(now.getTime() - minute * 60_000)
    const labels = { service: 'caretaker', method: 'GET', route: '/health' }
    const slow = 1 + Math.sin(minute / 9)
    for (let n = 0; n < 20; n++) {
      const status = minute > 20 && minute < 30 && n < 3 ? '500' : '200'
      batch.add({ name: 'http_requests_total', labels: { ...labels, status }, kind: 'counter', source: 'caretaker' }, 1, at)
      const seconds = 0.05 * slow * (1 + n * n * 0.02)
      batch.add(
        { name: 'http_request_duration_seconds', labels: { ...labels, status }, kind: 'histogram', source: 'caretaker', unit: 'seconds' },
        seconds,
        at,
      )
    }
  }
  return batch
}

/** Every page of the dashboard on that day. */
export function pagesOf(day: Operations): string[] {
  return [
    '/ops',
    '/ops/health',
    '/ops/incidents',
    `/ops/incidents/${day.incident}`,
    `/ops/incidents/${day.resolved}`,
    '/ops/alerts',
    '/ops/metrics',
    '/ops/metrics?range=day',
    '/ops/jobs',
    '/ops/runs',
    `/ops/runs/${day.run}`,
    `/ops/runs/${day.failedRun}`,
    '/ops/backups',
    '/ops/webhooks',
    '/ops/gdpr',
    `/ops/gdpr/${day.request}`,
    '/ops/maintenance',
    '/ops/audit',
    '/ops/keys',
  ]
}
