import { defineConfig } from '../../lib/config/index.ts'

/** An AI assistant on Netlify, whose operations were a book of runbooks: what a person did by the book is done here. */
export default defineConfig({
  app: { name: 'Runbooks', url: 'http://localhost:8888/app', timezone: 'UTC' },

  health: {
    checks: {
      database: { critical: true },
      supabase: { critical: true },
      'object-store': {},
      rls: {},
      stripe: { critical: false },
      openai: {},
      redis: {},
      jobs: {},
      webhooks: {},
      gdpr: {},
      website: { kind: 'url', url: 'http://localhost:8888/app', critical: false, timeoutMs: 3000 },
    },
    // Announced on the status page a week ahead.
    maintenance: [{ name: 'scheduled', title: 'Scheduled maintenance', days: ['sun'], from: '02:00', to: '04:00', timezone: 'UTC' }],
  },

  retention: [
    // A rotated key works for another day.
    { name: 'revoked_keys', table: 'api_keys', where: `revoked_at < now() - interval '24 hours'`, action: 'purge' },
    {
      name: 'conversations',
      table: 'conversations',
      column: 'deleted_at',
      olderThan: '30 days',
      action: 'purge',
      children: [{ table: 'messages' }],
    },
    { name: 'request_logs', table: 'request_logs', column: 'created_at', olderThan: '30 days', action: 'purge' },
    { name: 'error_logs', table: 'error_logs', column: 'created_at', olderThan: '90 days', action: 'purge' },
    { name: 'auth_attempts', table: 'auth_attempts', column: 'created_at', olderThan: '90 days', action: 'purge' },
    { name: 'audit_logs', table: 'audit_logs', column: 'created_at', olderThan: '24 months', action: 'purge' },
    { name: 'gdpr_requests', table: 'gdpr_requests', column: 'completed_at', olderThan: '24 months', action: 'purge' },
  ],

  reports: {
    performance: {
      description: "Each function's day: requests, errors, the middle and the slow end.",
      period: 'day',
      sql: `select (:from at time zone :timezone)::date as day, function_name, count(*)::int as requests,
              (count(*) filter (where status >= 500))::numeric / count(*) as error_rate,
              percentile_disc(0.5) within group (order by duration_ms) as p50_ms, percentile_disc(0.95) within group (order by duration_ms) as p95_ms
            from request_logs where created_at >= :from and created_at < :to group by function_name`,
      into: 'performance_metrics',
    },
    usage: {
      description: "Each model's month: who used it, and how many tokens they used.",
      period: 'month',
      sql: `select (:from at time zone :timezone)::date as month, model, count(distinct user_id)::int as active_users,
              sum(prompt_tokens) as prompt_tokens, sum(completion_tokens) as completion_tokens
            from token_usage where created_at >= :from and created_at < :to group by model`,
      into: 'usage_reports',
      store: 'csv',
    },
  },

  metrics: {
    gauges: {
      error_ratio: {
        sql: `select count(*) filter (where status >= 500)::numeric / nullif(count(*), 0) from request_logs where created_at > now() - interval '5 minutes'`,
        every: '1 minute',
        unit: 'ratio',
        help: 'Share of the functions’ answers that were errors, in the last five minutes.',
      },
      response_p95_seconds: {
        sql: `select percentile_disc(0.95) within group (order by duration_ms) / 1000.0 from request_logs where created_at > now() - interval '5 minutes'`,
        every: '1 minute',
        unit: 'seconds',
        help: 'p95 of the functions’ answers, in the last five minutes.',
      },
      token_usage_ratio: {
        sql: `select max(used.tokens::numeric / s.token_limit) from subscriptions s
              join (select user_id, sum(prompt_tokens + completion_tokens) as tokens from token_usage
                    where created_at >= date_trunc('month', now()) group by user_id) used using (user_id)
              where s.status = 'active'`,
        unit: 'ratio',
        help: 'Of the tokens of a month, as far as whoever is nearest to their limit has used them.',
      },
      failed_sign_ins: {
        sql: `select count(*) from auth_attempts where not succeeded and created_at > now() - interval '5 minutes'`,
        every: '1 minute',
        help: 'Attempts to sign in that failed, in the last five minutes.',
      },
      disk_used_ratio: {
        sql: 'select pg_database_size(current_database()) / (8 * 1024 ^ 3)',
        unit: 'ratio',
        help: 'Size of the database, of the 8 GB that the plan has.',
      },
    },
    errors: { sql: 'select created_at as at, severity as what, message from error_logs where created_at >= :since' },
  },

  jobs: {
    'scheduled-maintenance': {
      description:
        'The maintenance window, Sunday 2 to 4: indexes are rebuilt, tables vacuumed, and the planner learns what they hold now.',
      schedule: '0 2 * * 0',
      steps: [
        { reindex: ['idx_messages_conversation_id', 'idx_request_logs_created_at', { table: 'token_usage' }] },
        { vacuum: ['messages', 'token_usage', 'request_logs', 'auth_attempts', 'audit_logs'] },
        { analyze: 'all' },
      ],
    },
    'performance-metrics': {
      description: "Yesterday's figures of each function, before its requests are old enough to go.",
      schedule: '30 0 * * *',
      steps: [{ report: 'performance' }],
    },
    'usage-report': {
      description: "Last month's use of each model, as rows and as a CSV.",
      schedule: '0 6 1 * *',
      steps: [{ report: 'usage' }],
    },
    'database-report': {
      description: 'Bloat, dead rows, unused and missing indexes, slow queries.',
      schedule: '0 6 * * 1',
      steps: [{ report: 'database' }],
    },
  },

  schedules: { retention: '0 1 * * *', backup: '0 3 * * *' },

  // Recipients are not named here: the public keys come from the environment, so that each deployment has its own.
  backup: { keep: { daily: 30, config: '90 days' }, increments: {} },

  alerts: {
    channels: {
      slack: {},
      pagerduty: {},
      cto: { kind: 'email', to: ['cto@example.org'] },
    },
    rules: [
      // What page people.
      {
        name: 'errors',
        description: 'Error rate',
        metric: 'error_ratio',
        above: 0.05,
        for: '5 minutes',
        severity: 'P0',
        component: 'website',
      },
      {
        name: 'slow',
        description: 'p95 of the answers, seconds',
        metric: 'response_p95_seconds',
        above: 5,
        severity: 'P1',
        component: 'website',
      },
      {
        name: 'tokens-critical',
        description: 'Tokens used of a limit',
        metric: 'token_usage_ratio',
        above: 0.9,
        severity: 'P1',
        component: 'tokens',
      },
      { name: 'failed-sign-ins', description: 'Failed sign-ins', metric: 'failed_sign_ins', above: 10, severity: 'P1' },
      {
        name: 'pool-exhausted',
        description: 'Connections of all that the database allows',
        metric: 'database_connections',
        per: { metric: 'database_connections_max' },
        above: 0.95,
        severity: 'P0',
        component: 'database',
      },
      // What warns. It joins the incident of its component, and makes none more severe.
      {
        name: 'errors-warning',
        description: 'Error rate',
        metric: 'error_ratio',
        above: 0.01,
        for: '10 minutes',
        severity: 'P2',
        component: 'website',
      },
      {
        name: 'slow-warning',
        description: 'p95 of the answers, seconds',
        metric: 'response_p95_seconds',
        above: 2,
        severity: 'P3',
        component: 'website',
      },
      {
        name: 'tokens-warning',
        description: 'Tokens used of a limit',
        metric: 'token_usage_ratio',
        above: 0.7,
        severity: 'P3',
        component: 'tokens',
      },
      { name: 'disk', description: 'Disk used', metric: 'disk_used_ratio', above: 0.8, recover: 0.75, severity: 'P2' },
      // Of the 1 GB that a function has.
      {
        name: 'memory',
        description: 'Memory, bytes',
        metric: 'process_resident_memory_bytes',
        above: 0.85 * 1024 ** 3,
        for: '5 minutes',
        severity: 'P2',
      },
    ],
  },

  incidents: {
    severities: {
      P0: {
        description: 'Critical: complete outage, data breach, security incident',
        respondWithin: '15 minutes',
        notify: ['slack', 'pagerduty'],
        escalateAfter: 'immediately',
        escalateTo: ['cto'],
        public: true,
      },
      P1: {
        description: 'High: partial outage, performance degradation of more than half',
        respondWithin: '30 minutes',
        notify: ['slack', 'pagerduty'],
        escalateAfter: '1 hour',
        escalateTo: ['cto'],
        public: true,
      },
      P2: {
        description: 'Medium: a feature is unavailable, performance degradation of less than half',
        respondWithin: '2 hours',
        notify: ['slack'],
        escalateAfter: '4 hours',
        escalateTo: ['pagerduty'],
      },
      P3: {
        description: 'Low: minor issues, cosmetic bugs',
        respondWithin: '24 hours',
        notify: ['slack'],
        escalateAfter: '48 hours',
        escalateTo: ['pagerduty'],
      },
    },
    checklist: [
      'Acknowledge alert',
      'Create incident channel (#incident-YYYY-MM-DD-description)',
      'Assess impact and severity',
      'Implement immediate mitigation',
      'Update status page',
      'Begin root cause analysis',
      'Deploy fix',
      'Write postmortem',
    ],
  },

  gdpr: {
    subject: { table: 'auth.users', id: 'id', email: 'email' },
    // Who else holds data of the people, asked where there is a key for it.
    processors: [{ processor: 'stripe', ids: 'subscriptions.stripe_customer_id' }],
    controller: { name: 'Runbooks Ltd', contact: 'privacy@runbooks.example' },
    consent: {
      newsletter: { version: '1', text: 'We write to you about what is new, about once a month. You can stop it in your settings.' },
      'model-training': {
        version: '1',
        text: 'We may use your conversations to make the assistant better. You can take this back at any time.',
      },
    },
    activities: [
      {
        name: 'Answering questions',
        purpose: 'the service itself',
        basis: 'contract (Art. 6(1)(b))',
        tables: ['profiles', 'api_keys', 'connected_accounts', 'conversations', 'messages', 'token_usage'],
        recipients: ['OpenAI'],
        transfers: 'United States, under standard contractual clauses',
      },
      {
        name: 'Billing',
        purpose: 'payment, and books that tax law asks for',
        basis: 'contract, legal obligation (Art. 6(1)(b), (c))',
        tables: ['subscriptions', 'payments'],
      },
      {
        name: 'Security',
        purpose: 'finding faults and abuse',
        basis: 'legitimate interests (Art. 6(1)(f))',
        tables: ['auth_attempts', 'audit_logs', 'error_logs', 'request_logs'],
        recipients: [],
      },
      {
        name: 'Requests of people',
        purpose: 'answering them, and showing that',
        basis: 'legal obligation (Art. 6(1)(c))',
        tables: ['gdpr_requests'],
        recipients: [],
      },
    ],
    tables: {
      profiles: { rectify: ['display_name', 'locale'], erase: 'delete' },
      subscriptions: { erase: 'delete' },
      // Secrets are of no use to the person, and of much use to a thief.
      api_keys: { export: ['id', 'name', 'last_used_at', 'revoked_at', 'created_at'], erase: 'delete' },
      connected_accounts: { export: ['id', 'provider', 'created_at'], erase: 'delete' },
      conversations: { erase: 'delete' },
      messages: { erase: 'delete' },
      token_usage: { erase: 'delete' },
      payments: { erase: { keep: 'tax law', until: '10 years', anonymise: ['billing_name'] } },
      request_logs: { erase: { anonymise: ['user_id'] } },
      error_logs: { erase: 'delete' },
      audit_logs: { erase: { anonymise: ['user_id', 'ip_address'] } },
      auth_attempts: { link: { column: 'email', to: 'email' }, erase: 'delete' },
      // That a request was answered in time has to be shown later.
      gdpr_requests: {
        link: { column: 'requester_email', to: 'email' },
        erase: { keep: 'accountability (GDPR Art. 5(2))', until: '2 years' },
      },
    },
  },

  webhooks: {
    stripe: {
      on: {
        // The payment is marked as paid; an invoice that was never seen gets one.
        'invoice.paid': async ({ data }, tx) => {
          await tx.execute(
            `insert into payments (user_id, stripe_invoice_id, amount_cents, currency, status, paid_at)
             select s.user_id, invoice ->> 'id', (invoice ->> 'amount_paid')::int, invoice ->> 'currency', 'paid',
               to_timestamp((invoice #>> '{status_transitions,paid_at}')::float8)
             from (select $1::jsonb as invoice) event left join subscriptions s on s.stripe_customer_id = invoice ->> 'customer'
             on conflict (stripe_invoice_id) do update
               set status = 'paid', amount_cents = excluded.amount_cents, paid_at = excluded.paid_at`,
            [JSON.stringify(data.object)],
          )
        },
        'customer.subscription.updated': async ({ data }, tx) => {
          await tx.execute(
            `update subscriptions set status = case subscription ->> 'status' when 'active' then 'active' when 'canceled' then 'canceled' else 'past_due' end
             from (select $1::jsonb as subscription) event where stripe_customer_id = subscription ->> 'customer'`,
            [JSON.stringify(data.object)],
          )
        },
      },
    },
  },
})
