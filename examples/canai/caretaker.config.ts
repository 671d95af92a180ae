import { defineConfig } from '../../lib/config/index.ts'
import type { Transaction } from '../../lib/platform/db.ts'

/** CanAI: plans for founders. What keeps this app healthy, small and lawful. */
export default defineConfig({
  app: { name: 'CanAI', url: 'http://localhost:8888/app', timezone: 'UTC' },

  health: {
    checks: {
      database: { critical: true },
      supabase: { critical: true },
      storage: { kind: 'supabase-storage' },
      'object-store': {},
      rls: {},
      stripe: { critical: false },
      openai: {},
      hume: {},
      memberstack: {},
      posthog: {},
      sentry: {},
      make: {},
      webflow: {},
      jobs: {},
      webhooks: {},
      migrations: {},
      homepage: { kind: 'url', url: 'http://localhost:8888/app', critical: false, timeoutMs: 3000 },
    },
  },
  // What founders see under /status.
  status: {
    names: { storage: 'File storage', make: 'Automations' },
    groups: { 'Plans and voices': ['openai', 'hume'], Accounts: ['memberstack', 'stripe'] },
    plots: ['homepage', 'database'],
  },

  maintenance: {
    vacuum: ['session_logs', 'initial_prompt_logs', 'spark_logs', 'payment_logs'],
    reindex: ['idx_session_logs_user_id', 'idx_prompt_logs_user_id', 'idx_comparisons_trust_delta'],
    refresh: ['daily_metrics'],
  },

  retention: [
    // Nothing of a cache is lost, even where all of it has expired.
    { name: 'spark_cache', table: 'spark_cache', where: 'expires_at < now()', action: 'purge', limits: { maxShare: 1 } },
    { name: 'error_logs', table: 'error_logs', column: 'created_at', olderThan: '30 days', action: { archiveTo: 'error_logs_archive' } },
    { name: 'session_logs', table: 'session_logs', column: 'created_at', olderThan: '24 months', action: 'purge' },
    { name: 'initial_prompt_logs', table: 'initial_prompt_logs', column: 'created_at', olderThan: '24 months', action: 'purge' },
    { name: 'error_logs_24_months', table: 'error_logs', column: 'created_at', olderThan: '24 months', action: 'purge' },
    // Archived errors leave error_logs after 30 days: without this rule nothing would ever end their 24 months.
    { name: 'error_logs_archive', table: 'error_logs_archive', column: 'created_at', olderThan: '24 months', action: 'purge' },
    {
      name: 'feedback_logs',
      table: 'feedback_logs',
      column: 'created_at',
      olderThan: '12 months',
      action: { anonymise: { comments: '[ANONYMIZED]', improvement_suggestions: '[ANONYMIZED]' } },
      mark: 'anonymized',
    },
  ],

  reports: {
    'monthly-performance': {
      description: "A month's speed, use and uptime; repeated, it stays one row.",
      period: 'month',
      sql: `select (:from at time zone :timezone)::date as month, avg(response_time_ms) as avg_response_time, count(distinct user_id)::int as total_users,
              (count(*) filter (where product_track = 'business_builder'))::int as total_plans_created, avg(trust_delta) as avg_trust_delta,
              calculate_uptime(:from) as uptime_percentage
            from session_logs where created_at >= :from and created_at < :to`,
      into: { table: 'performance_reports', key: ['month'] },
    },
  },

  metrics: {
    gauges: {
      // The app writes down how long it took: Caretaker asks for the slow end of it.
      session_p95_seconds: {
        sql: `select percentile_disc(0.95) within group (order by response_time_ms) / 1000.0 from session_logs where created_at > now() - interval '15 minutes'`,
        unit: 'seconds',
        help: 'p95 of what people waited for an answer, in the last quarter of an hour.',
      },
      app_errors_last_5_minutes: {
        sql: `select count(*) from error_logs where severity in ('error', 'critical') and created_at > now() - interval '5 minutes'`,
        every: '1 minute',
        help: 'Errors that the app wrote down.',
      },
      trust_delta_average: {
        sql: `select avg(trust_delta) from session_logs where created_at > now() - interval '1 day'`,
        every: '1 hour',
        help: 'How much more people trusted a plan of theirs, on average of a day.',
      },
    },
    dashboard: {
      activeUsers: { daily: { sql: `select count(distinct user_id) from session_logs where created_at > now() - interval '1 day'` } },
    },
    errors: { sql: 'select created_at as at, error_type as what, message from error_logs where created_at >= :since' },
    // Every look at the app's health is an event there.
    posthog: true,
  },

  jobs: {
    'daily-cleanup': {
      description: 'Expired cache entries go, old errors are archived, and the tables they leave are vacuumed.',
      schedule: '0 14 * * *',
      steps: [{ retention: ['spark_cache', 'error_logs'] }, { vacuum: ['spark_cache', 'error_logs', 'error_logs_archive'] }],
    },
    'daily-maintenance': {
      description: 'The busiest tables are vacuumed and the planner learns what they hold now.',
      schedule: '0 2 * * *',
      steps: [
        { vacuum: ['session_logs', 'initial_prompt_logs', 'spark_logs', 'payment_logs'] },
        { analyze: 'all' },
        { retention: ['spark_cache', 'error_logs'] },
      ],
    },
    'weekly-optimization': {
      description: 'The indexes that every page waits for are rebuilt, and what could be better is written down.',
      schedule: '0 3 * * 0',
      steps: [
        { reindex: ['idx_session_logs_user_id', 'idx_prompt_logs_user_id', 'idx_comparisons_trust_delta'] },
        { analyze: 'all' },
        { report: 'database' },
      ],
    },
    'monthly-lifecycle': {
      description: 'What is older than it may be goes or is made anonymous, and last month gets its report.',
      schedule: '0 4 1 * *',
      steps: [
        { retention: ['session_logs', 'initial_prompt_logs', 'error_logs_24_months', 'error_logs_archive', 'feedback_logs'] },
        // Of last month only, so the rules above took nothing from it.
        { report: 'monthly-performance' },
      ],
    },
    'refresh-daily-metrics': {
      description: 'The figures of each day, for the dashboard.',
      schedule: '0 1 * * *',
      steps: [{ refresh: ['daily_metrics'] }],
    },
  },

  // Recipients are not named here: the public keys come from the environment, so that each deployment has its own.
  backup: {
    keep: { daily: 30, hourly: '7 days', config: '90 days' },
    buckets: ['voice-notes'],
    // Any moment of the last seven days can be restored.
    increments: {},
    drill: {
      assertions: { 'sessions came back, none from the future': 'select count(*) > 0 and max(created_at) <= now() from session_logs' },
    },
  },

  // Slack is told where SLACK_WEBHOOK_URL is set; what fails in /health needs no rule.
  alerts: {
    rules: [
      {
        name: 'app-errors',
        description: 'Errors that the app wrote down',
        metric: 'app_errors_last_5_minutes',
        above: 10,
        severity: 'P1',
        component: 'app',
      },
      {
        name: 'slow-answers',
        description: 'p95 of what people wait for, seconds',
        metric: 'session_p95_seconds',
        above: 5,
        severity: 'P2',
        component: 'app',
      },
    ],
  },

  gdpr: {
    subject: { table: 'auth.users', id: 'id', email: 'email' },
    tables: {
      session_logs: { erase: 'delete' },
      initial_prompt_logs: { erase: 'delete' },
      prompt_logs: { erase: 'delete' },
      spark_logs: { erase: 'delete' },
      comparisons: { erase: 'delete' },
      usage_logs: { erase: 'delete' },
      error_logs: { erase: 'delete' },
      payment_logs: { erase: { keep: 'tax law', until: '10 years', anonymise: ['card_name'] } },
      // Columns that name a person without a foreign key.
      feedback_logs: { link: { column: 'contact_email', to: 'email' } },
      share_logs: { link: { column: 'recipient_email', to: 'email' } },
      error_logs_archive: { link: { column: 'user_id', to: 'id' } },
    },
    // Who else holds data of the people, asked where there is a key for it.
    processors: [{ processor: 'stripe', ids: 'payment_logs.stripe_customer_id' }, 'posthog', 'memberstack'],
    buckets: [{ bucket: 'voice-notes', prefix: '{id}/' }],
  },

  webhooks: {
    stripe: { on: { 'invoice.paid': (event, tx) => recordPayment(paidInvoice(event.data.object), tx) } },
  },
})

interface PaidInvoice {
  id: string
  customer: string | null
  amountCents: number
  currency: string
  paidAt: Date | null
}

/** What of a Stripe invoice a payment is made of. */
function paidInvoice(object: Record<string, unknown>): PaidInvoice {
  const { id, customer, amount_paid: amount, currency, status_transitions: transitions } = object
  if (typeof id !== 'string' || typeof amount !== 'number')
    throw new TypeError('invoice.paid: expected an invoice with "id" and "amount_paid"')
  // The customer is an id, or the whole customer where the event was made with it expanded.
  const who = typeof customer === 'object' && customer !== null && 'id' in customer ? customer.id : customer
  const paid = typeof transitions === 'object' && transitions !== null && 'paid_at' in transitions ? transitions.paid_at : null
  return {
    id,
    customer: typeof who === 'string' ? who : null,
    amountCents: amount,
    currency: typeof currency === 'string' ? currency : 'usd',
    paidAt: typeof paid === 'number' ? new Date(paid * 1000) : null,
  }
}

/** The invoice's payment is marked as paid; an invoice that was never seen gets one. */
async function recordPayment(invoice: PaidInvoice, tx: Transaction): Promise<void> {
  await tx.execute(
    `insert into payment_logs (user_id, stripe_customer_id, stripe_invoice_id, amount_cents, currency, status, paid_at)
     values ((select id from auth.users where raw_app_meta_data ->> 'stripe_customer_id' = $2), $2, $1, $3::int, $4, 'paid', coalesce($5::timestamptz, now()))
     on conflict (stripe_invoice_id) do update
       set status = 'paid', amount_cents = excluded.amount_cents, paid_at = excluded.paid_at`,
    [invoice.id, invoice.customer, invoice.amountCents, invoice.currency, invoice.paidAt],
  )
}
