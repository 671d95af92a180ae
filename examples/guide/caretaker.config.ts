import { defineConfig, type WebhookEvent } from '../../lib/config/index.ts'
import type { Transaction } from '../../lib/platform/db.ts'

/** A shop for courses on Supabase, Stripe, STACK Auth and n8n, looked after as a deployment guide of that kind asks. */
export default defineConfig({
  app: { name: 'Guide', url: 'http://localhost:8888/app', timezone: 'Europe/Berlin' },

  health: {
    checks: {
      database: { critical: true },
      supabase: { critical: true },
      'object-store': {},
      rls: {},
      stripe: { critical: false },
      'stack-auth': {},
      migrations: {},
      jobs: {},
      webhooks: {},
      gdpr: {},
      website: { kind: 'url', url: 'http://localhost:8888/app', critical: false, timeoutMs: 3000 },
      n8n: { kind: 'url', url: 'http://localhost:8888/app/n8n/healthz', critical: false, timeoutMs: 3000 },
    },
  },

  retention: [
    { name: 'uploads', table: 'uploads', column: 'deleted_at', olderThan: '30 days', action: 'purge' },
    {
      name: 'open_orders',
      table: 'orders',
      column: 'created_at',
      olderThan: '90 days',
      where: `status in ('open', 'abandoned')`,
      action: 'purge',
    },
    {
      name: 'workflow_runs',
      table: 'workflow_runs',
      column: 'started_at',
      olderThan: '30 days',
      where: `status <> 'running'`,
      action: 'purge',
    },
    { name: 'user_notifications', table: 'user_notifications', column: 'sent_at', olderThan: '90 days', action: 'purge' },
    {
      name: 'request_logs',
      table: 'request_logs',
      column: 'created_at',
      olderThan: '30 days',
      action: 'purge',
      // Weeks that are past as a whole are dropped, and the coming ones are made.
      partitions: { interval: 'week', ahead: '4 weeks', timezone: 'UTC' },
    },
    { name: 'error_events', table: 'error_events', column: 'created_at', olderThan: '60 days', action: 'purge' },
    // What is only counted need not say who it was: the figures stay.
    { name: 'feature_usage', table: 'feature_usage', column: 'used_at', olderThan: '6 months', action: { anonymise: { user_id: null } } },
    {
      name: 'feedback',
      table: 'feedback',
      column: 'created_at',
      olderThan: '12 months',
      action: { anonymise: { user_id: null, contact_email: null, comment: '[removed]' } },
      mark: 'anonymised',
    },
  ],

  reports: {
    'feature-adoption': {
      description: 'Which features were used in a week, and by how many.',
      period: 'week',
      sql: `select (:from at time zone :timezone)::date as week, feature, count(distinct user_id)::int as users, count(*)::int as uses
            from feature_usage where used_at >= :from and used_at < :to group by feature`,
      into: 'adoption_reports',
      store: 'csv',
    },
  },

  metrics: {
    gauges: {
      error_ratio: {
        sql: `select count(*) filter (where status >= 500)::numeric / nullif(count(*), 0) from request_logs where created_at > now() - interval '5 minutes'`,
        every: '1 minute',
        unit: 'ratio',
        help: 'Share of the answers that were errors, in the last five minutes.',
      },
      response_p95_seconds: {
        sql: `select route, percentile_disc(0.95) within group (order by duration_ms) / 1000.0 as value from request_logs
              where created_at > now() - interval '15 minutes' group by route order by count(*) desc limit 20`,
        unit: 'seconds',
        help: 'p95 of the answers by route, in the last quarter of an hour.',
      },
      app_errors_last_5_minutes: {
        sql: `select count(*) from error_events where created_at > now() - interval '5 minutes'`,
        every: '1 minute',
        help: 'Errors that the app wrote down.',
      },
      workflow_failures_last_hour: {
        sql: `select workflow, count(*) filter (where status = 'failed') as value from workflow_runs where started_at > now() - interval '1 hour' group by workflow`,
        help: 'Runs of workflows that failed, by workflow.',
      },
    },
    errors: { sql: 'select created_at as at, message from error_events where created_at >= :since' },
  },

  jobs: {
    'storage-cleanup': {
      description: 'What is older than it may be goes or is made anonymous, and the dashboard is made anew.',
      schedule: '30 2 * * *',
      steps: [{ retention: 'all' }, { vacuum: ['request_logs', 'workflow_runs', 'error_events'] }, { refresh: ['daily_figures'] }],
    },
    'database-maintenance': {
      description: 'Indexes are rebuilt, the planner learns what the tables hold now, and what could be better is reported.',
      schedule: '0 4 * * 0',
      steps: [
        { reindex: ['idx_request_logs_created_at', { table: 'feature_usage' }] },
        { vacuum: ['users', 'orders', 'invoices', 'feature_usage', 'feedback'] },
        { analyze: 'all' },
        { report: 'database' },
      ],
    },
    'feature-adoption': {
      description: "Last week's use of each feature, as rows and as a CSV.",
      schedule: '0 6 * * 1',
      steps: [{ report: 'feature-adoption' }],
    },
    'n8n-digest': {
      description: 'The workflow that writes to everybody about the week.',
      schedule: '0 8 * * 5',
      steps: [{ call: { path: '/n8n/webhook/digest', timeout: '1 minute' } }],
    },
  },

  schedules: { backup: '0 3 * * *' },

  // Recipients are not named here: the public keys come from the environment, so that each deployment has its own.
  backup: {
    keep: { daily: 30, weekly: 8, monthly: 12, hourly: '7 days', config: '90 days' },
    buckets: ['uploads'],
    increments: {},
    drill: {
      assertions: {
        'every paid order has its invoice': `select not exists (select from orders o where o.status = 'paid' and not exists (select from invoices i where i.order_id = o.id))`,
      },
    },
  },

  alerts: {
    rules: [
      {
        name: 'errors',
        description: 'Error rate',
        metric: 'error_ratio',
        above: 0.05,
        for: '5 minutes',
        severity: 'P1',
        component: 'website',
      },
      {
        name: 'app-errors',
        description: 'Errors that the app wrote down',
        metric: 'app_errors_last_5_minutes',
        above: 10,
        severity: 'P2',
        component: 'website',
      },
      {
        name: 'slow-routes',
        description: 'p95 of a route, seconds',
        metric: 'response_p95_seconds',
        by: ['route'],
        above: 5,
        severity: 'P2',
        component: 'website',
      },
      {
        name: 'workflows',
        description: 'Runs of a workflow that failed in an hour',
        metric: 'workflow_failures_last_hour',
        by: ['workflow'],
        above: 5,
        severity: 'P2',
        component: 'n8n',
      },
    ],
  },

  gdpr: {
    subject: { table: 'users', id: 'id', email: 'email' },
    // Who else holds data of the people: asked where there is a key for it, or by somebody.
    processors: [
      { processor: 'stripe', ids: 'invoices.stripe_customer_id' },
      { name: 'stack-auth', manual: 'delete the account in the dashboard of STACK Auth' },
    ],
    tables: {
      orders: { erase: 'delete' },
      invoices: { erase: { keep: 'tax law', until: '10 years', anonymise: ['billing_name', 'billing_address'] } },
      uploads: { erase: 'delete' },
      user_notifications: { erase: 'delete' },
      workflow_runs: { erase: 'delete' },
      request_logs: { erase: { anonymise: ['user_id'] } },
      error_events: { erase: 'delete' },
      feature_usage: { erase: { anonymise: ['user_id'] } },
      feedback: { link: { column: 'contact_email', to: 'email' }, erase: { anonymise: { user_id: null, comment: '[removed]' } } },
    },
    buckets: [{ bucket: 'uploads', prefix: '{id}/' }],
  },

  webhooks: {
    stripe: {
      on: {
        // The customer's earlier invoices say who they are.
        'invoice.paid': async ({ data }, tx) => {
          await tx.execute(
            `insert into invoices (user_id, stripe_customer_id, stripe_invoice_id, amount_cents, currency, paid_at)
             select (select i.user_id from invoices i where i.stripe_customer_id = invoice ->> 'customer' and i.user_id is not null limit 1),
               invoice ->> 'customer', invoice ->> 'id', (invoice ->> 'amount_paid')::int, invoice ->> 'currency',
               to_timestamp((invoice #>> '{status_transitions,paid_at}')::float8)
             from (select $1::jsonb as invoice) event
             on conflict (stripe_invoice_id) do update set amount_cents = excluded.amount_cents, paid_at = excluded.paid_at`,
            [JSON.stringify(data.object)],
          )
        },
        'checkout.session.expired': async ({ data }, tx) => {
          await tx.execute(
            `update orders set status = 'abandoned' where id = ($1::jsonb ->> 'client_reference_id')::uuid and status = 'open'`,
            [JSON.stringify(data.object)],
          )
        },
      },
    },
    sources: {
      // Accounts are STACK Auth's; what happens to them there is told here, by Standard Webhooks. One that is deleted there
      // stays here until its person is erased: that takes invoices and files into account.
      'stack-auth': { on: { 'user.created': keepUser, 'user.updated': keepUser } },
    },
  },
})

/** Addresses that are confirmed at STACK Auth are the person's here, too. */
async function keepUser({ data }: WebhookEvent, tx: Transaction): Promise<void> {
  await tx.execute(
    `insert into users (id, email, display_name)
     select (account ->> 'id')::uuid, account ->> 'primary_email', coalesce(account ->> 'display_name', 'Somebody')
     from (select $1::jsonb as account) event where account ->> 'primary_email' is not null
     on conflict (id) do update set email = excluded.email, display_name = excluded.display_name`,
    [JSON.stringify(data.object)],
  )
}
