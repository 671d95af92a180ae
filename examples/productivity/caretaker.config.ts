import { defineConfig } from '../../lib/config/index.ts'

/** A personal productivity app on Vercel: its crons, its backups by kind of data, and its daily SQL. */
export default defineConfig({
  app: { name: 'Productivity', url: 'http://localhost:8888/app', timezone: 'UTC' },

  health: {
    checks: {
      database: { critical: true },
      storage: { kind: 'object-store' },
      supabase: { critical: true },
      redis: {},
      rls: {},
      jobs: {},
      api: { kind: 'url', url: 'http://localhost:8888/app', critical: false, timeoutMs: 3000 },
    },
  },

  retention: [
    { name: 'tasks', table: 'tasks', column: 'deleted_at', olderThan: '90 days', action: { archiveTo: 'tasks_archive' } },
    { name: 'sync_log', table: 'sync_log', column: 'synced_at', olderThan: '30 days', action: 'purge' },
    // What is only counted need not say who it was: the figures stay.
    {
      name: 'app_sessions',
      table: 'app_sessions',
      column: 'started_at',
      olderThan: '12 months',
      action: { anonymise: { user_id: null, user_agent: null } },
    },
    { name: 'ai_requests', table: 'ai_requests', column: 'created_at', olderThan: '6 months', action: 'purge' },
  ],

  reports: {
    dashboard: {
      description: "The metrics dashboard's day: who was there, what they got done, how the model did.",
      period: 'day',
      sql: `select (:from at time zone :timezone)::date as day,
              (select count(distinct user_id)::int from app_sessions where started_at >= :from and started_at < :to) as active_users_daily,
              (select count(distinct user_id)::int from app_sessions where started_at >= :to - interval '7 days' and started_at < :to) as active_users_weekly,
              (select count(distinct user_id)::int from app_sessions where started_at >= :to - interval '30 days' and started_at < :to) as active_users_monthly,
              t.created as tasks_created, t.completed as tasks_completed, t.completed::numeric / nullif(t.created, 0) as completion_rate,
              (select extract(epoch from avg(ended_at - started_at))::int from app_sessions where started_at >= :from and started_at < :to) as avg_session_seconds,
              a.inference_time_ms, a.parse_accuracy, a.cache_hit_rate, a.fallback_rate
            from
              (select count(*)::int as created, count(completed_at)::int as completed from tasks where created_at >= :from and created_at < :to) t,
              (select avg(inference_ms)::int as inference_time_ms, avg((kind = 'parse' and accepted)::int) filter (where kind = 'parse') as parse_accuracy,
                 avg(cache_hit::int) as cache_hit_rate, avg(fallback::int) as fallback_rate
               from ai_requests where created_at >= :from and created_at < :to) a`,
      into: 'dashboard_metrics',
    },
  },

  metrics: {
    gauges: {
      task_completion_ratio: {
        sql: `select count(completed_at)::numeric / nullif(count(*), 0) from tasks where created_at > now() - interval '1 day'`,
        every: '15 minutes',
        unit: 'ratio',
        help: 'Of the tasks of the last day, how many are done.',
      },
      storage_used_ratio: {
        sql: 'select pg_database_size(current_database()) / (8 * 1024 ^ 3)',
        every: '15 minutes',
        unit: 'ratio',
        help: 'Size of the database, of the 8 GB that the plan has.',
      },
      sync_failures_last_hour: {
        sql: `select count(*) from sync_log where status = 'failed' and synced_at > now() - interval '1 hour'`,
        help: 'Syncs of devices that failed.',
      },
      ai_timeout_ratio: {
        sql: `select count(*) filter (where timed_out)::numeric / nullif(count(*), 0) from ai_requests where created_at > now() - interval '1 hour'`,
        unit: 'ratio',
        help: 'Share of the requests to the model that it did not answer in time.',
      },
    },
    dashboard: {
      activeUsers: {
        daily: { sql: `select count(distinct user_id) from app_sessions where started_at > now() - interval '1 day'` },
        weekly: { sql: `select count(distinct user_id) from app_sessions where started_at > now() - interval '7 days'` },
        monthly: { sql: `select count(distinct user_id) from app_sessions where started_at > now() - interval '30 days'` },
      },
      usage: {
        tasks_created: { sql: `select count(*) from tasks where created_at > now() - interval '1 day'` },
        tasks_completed: { sql: `select count(*) from tasks where completed_at > now() - interval '1 day'` },
        completion_rate: { metric: 'task_completion_ratio', over: '15 minutes' },
        avg_session_duration: {
          sql: `select extract(epoch from avg(ended_at - started_at)) from app_sessions where started_at > now() - interval '1 day'`,
        },
      },
      ai: {
        inference_time: { sql: `select avg(inference_ms) from ai_requests where created_at > now() - interval '1 day'` },
        parse_accuracy: {
          sql: `select avg(accepted::int) from ai_requests where kind = 'parse' and created_at > now() - interval '1 day'`,
        },
        cache_hit_rate: { sql: `select avg(cache_hit::int) from ai_requests where created_at > now() - interval '1 day'` },
        fallback_rate: { sql: `select avg(fallback::int) from ai_requests where created_at > now() - interval '1 day'` },
      },
    },
  },

  jobs: {
    'daily-cleanup': {
      description: 'Deleted tasks are archived after 90 days and sync logs go after 30; then tables and statistics are put in order.',
      schedule: '0 2 * * *',
      // What goes first is vacuumed afterwards: the other way round, its space would be free a day later.
      steps: [
        { retention: ['tasks', 'sync_log', 'app_sessions', 'ai_requests'] },
        { vacuum: ['tasks', 'sync_log'] },
        { analyze: ['tasks', 'users', 'sync_log'] },
        { refresh: ['task_statistics'] },
      ],
    },
    'sync-check': {
      description: 'The app looks for devices that have fallen behind.',
      schedule: { cron: '*/15 * * * *', missed: 'last' },
      steps: [{ call: { path: '/api/cron/sync-check', timeout: '30 seconds' } }],
    },
    'dashboard-metrics': {
      description: "Yesterday's figures for the metrics dashboard.",
      schedule: '15 0 * * *',
      steps: [{ report: 'dashboard' }],
    },
  },

  schedules: { backup: '0 3 * * *' },

  // Recipients are not named here: the public keys come from the environment, so that each deployment has its own.
  backup: {
    keep: { daily: 30, hourly: '7 days', config: '90 days' },
    increments: { keep: '7 days' },
    drill: {
      assertions: {
        'every task has its owner': 'select not exists (select from tasks t left join users u on u.id = t.user_id where u.id is null)',
      },
    },
  },

  alerts: {
    channels: {
      slack: {},
      pagerduty: {},
      'team-lead': { kind: 'email', to: ['lead@example.org'] },
    },
    rules: [
      {
        name: 'errors',
        description: 'Error rate',
        metric: 'http.error_rate',
        above: 0.01,
        minimum: 20,
        severity: 'P1_Critical',
        component: 'api',
      },
      {
        name: 'slow',
        description: 'p95 of the answers, seconds',
        metric: 'http.p95',
        above: 2,
        minimum: 20,
        severity: 'P2_High',
        component: 'api',
      },
      {
        name: 'low-completion',
        description: 'Tasks of the last day that are done',
        metric: 'task_completion_ratio',
        below: 0.5,
        over: '15 minutes',
        for: '1 hour',
        severity: 'P3_Medium',
        notify: ['team-lead'],
      },
      {
        name: 'storage',
        description: 'Storage used',
        metric: 'storage_used_ratio',
        above: 0.8,
        recover: 0.75,
        over: '15 minutes',
        severity: 'P3_Medium',
        notify: ['team-lead'],
      },
      {
        name: 'sync-failures',
        description: 'Syncs that failed in an hour',
        metric: 'sync_failures_last_hour',
        above: 10,
        severity: 'P2_High',
      },
      {
        name: 'ai-timeouts',
        description: 'Requests that the model did not answer in time',
        metric: 'ai_timeout_ratio',
        above: 0.05,
        severity: 'P4_Low',
      },
    ],
  },

  // Nobody carries a pager for what can wait: who is told, and how fast, goes by what is broken.
  incidents: {
    severities: {
      P1_Critical: {
        description: 'Complete service outage',
        respondWithin: '15 minutes',
        notify: ['slack'],
        escalateAfter: 'immediately',
        escalateTo: ['pagerduty'],
        public: true,
      },
      P2_High: {
        description: 'Major feature broken',
        respondWithin: '1 hour',
        notify: ['slack'],
        escalateAfter: 'immediately',
        escalateTo: ['team-lead'],
        public: true,
      },
      P3_Medium: { description: 'Minor feature issue', respondWithin: '4 hours', notify: ['slack'] },
      // It is in the list of incidents, which is the backlog.
      P4_Low: { description: 'Cosmetic issue', respondWithin: 'next business day', notify: [] },
    },
    checklist: [
      'Detect: alert, report of a user, or found by hand',
      'Triage: severity, affected users, scope',
      'Respond: mitigate, communicate, investigate',
      'Resolve: deploy the fix, verify it, watch it stay',
      'Post-mortem: timeline, root cause, prevention',
    ],
  },

  gdpr: {
    subject: { table: 'users', id: 'id', email: 'email' },
    tables: {
      user_preferences: { erase: 'delete' },
      devices: { export: ['id', 'name', 'last_seen_at'], erase: 'delete' },
      tasks: { erase: 'delete' },
      tasks_archive: { link: { column: 'user_id', to: 'id' }, erase: 'delete' },
      sync_log: { erase: 'delete' },
      ai_requests: { erase: 'delete' },
      app_sessions: { erase: { anonymise: ['user_id', 'user_agent'] } },
    },
  },
})
