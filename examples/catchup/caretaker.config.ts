import { type AppJobFunction, defineConfig, type WebhookHandler } from '../../lib/config/index.ts'

/** CatchUp: who to call again, and when. Its queues, its backups, its weekly vacuum. */
export default defineConfig({
  app: { name: 'CatchUp', url: 'http://localhost:8888/app', timezone: 'UTC' },

  health: {
    checks: {
      database: { critical: true },
      supabase: { critical: true },
      'voice-notes': { kind: 'supabase-storage' },
      'object-store': {},
      rls: {},
      redis: {},
      google: {},
      twilio: {},
      sendgrid: {},
      openai: {},
      jobs: {},
      api: { kind: 'url', url: 'http://localhost:8888/app', critical: false, timeoutMs: 3000 },
    },
  },

  retention: [
    // What waits for an answer stays; what was answered has served.
    {
      name: 'suggestions',
      table: 'suggestions',
      column: 'created_at',
      olderThan: '90 days',
      where: `status in ('accepted', 'dismissed', 'expired')`,
      action: 'purge',
    },
    { name: 'calendar_events', table: 'calendar_events', column: 'ends_at', olderThan: '30 days', action: 'purge' },
    { name: 'notifications', table: 'notifications', column: 'sent_at', olderThan: '90 days', action: 'purge' },
    { name: 'sms_replies', table: 'sms_replies', column: 'received_at', olderThan: '90 days', action: 'purge' },
    { name: 'login_attempts', table: 'login_attempts', column: 'attempted_at', olderThan: '90 days', action: 'purge' },
    { name: 'audit_logs', table: 'audit_logs', column: 'created_at', olderThan: '24 months', action: 'purge' },
  ],

  // The app tells http_requests_total, http_request_duration_seconds and suggestions_generated_total itself: POST /metrics/ingest.
  metrics: {
    gauges: {
      suggestions_pending: {
        sql: `select trigger_type, count(*) as value from suggestions where status = 'pending' group by trigger_type`,
        help: 'Suggestions that wait for an answer, by what they were made of.',
      },
      voice_notes_failed: {
        sql: `select count(*) from voice_notes where status = 'failed' and created_at > now() - interval '1 day'`,
        help: 'Voice notes of the last day that could not be transcribed.',
      },
      notifications_failed_ratio: {
        sql: `select count(*) filter (where status in ('bounced', 'failed'))::numeric / nullif(count(*), 0) from notifications where sent_at > now() - interval '1 day'`,
        every: '15 minutes',
        unit: 'ratio',
        help: 'Share of the messages of the last day that did not arrive.',
      },
    },
  },

  jobs: {
    'daily-cleanup': {
      description: 'What has served its time goes, and the tables that are written most are vacuumed.',
      schedule: '30 3 * * *',
      steps: [{ retention: 'all' }, { vacuum: ['contacts', 'suggestions', 'interaction_logs'] }],
    },
    'weekly-vacuum': {
      description: 'Every table is vacuumed, and the planner learns what it holds now.',
      schedule: '0 4 * * 0',
      steps: [
        {
          vacuum: [
            'users',
            'contacts',
            'groups',
            'contact_groups',
            'tags',
            'suggestions',
            'voice_notes',
            'interaction_logs',
            'availability_preferences',
            'notification_preferences',
            'google_accounts',
            'calendar_events',
            'notifications',
            'sms_replies',
            'login_attempts',
            'audit_logs',
          ],
        },
        { analyze: 'all' },
      ],
    },
    'suggestion-generation': {
      description: 'Whoever has not been heard of for as long as was wished is suggested.',
      schedule: '0 */6 * * *',
      steps: [{ run: suggestContacts() }],
    },
    'calendar-sync': {
      description: 'The app reads the calendars of Google.',
      schedule: '*/30 * * * *',
      steps: [{ call: { path: '/api/jobs/calendar-sync', timeout: '1 minute', retries: 2 } }],
    },
    'batch-notifications': {
      description: "The app sends the week's suggestions by SMS and e-mail.",
      schedule: '0 9 * * 0',
      steps: [{ call: { path: '/api/jobs/batch-notifications', timeout: '1 minute', retries: 2 } }],
    },
  },

  schedules: { backup: '0 2 * * *' },

  // Recipients are not named here: the public keys come from the environment, so that each deployment has its own.
  backup: {
    keep: { daily: 30, hourly: '7 days', config: '90 days' },
    buckets: ['voice-notes'],
    // At most an hour may be lost.
    increments: {},
    drill: {
      assertions: {
        'every suggestion has its contact':
          'select not exists (select from suggestions s left join contacts c on c.id = s.contact_id where c.id is null)',
      },
    },
  },

  alerts: {
    channels: { slack: {}, pagerduty: {}, opsgenie: {} },
    rules: [
      {
        name: 'high-error-rate',
        description: 'Error rate',
        metric: 'http.error_rate',
        above: 0.05,
        for: '5 minutes',
        minimum: 20,
        severity: 'P1',
        component: 'api',
      },
      {
        name: 'pool-exhausted',
        description: 'Requests that wait for a connection',
        metric: 'database_pool_waiting_count',
        stat: 'max',
        over: '1 minute',
        above: 10,
        for: '2 minutes',
        severity: 'P0',
        component: 'database',
      },
      {
        name: 'high-memory',
        description: 'Memory, bytes',
        metric: 'process_resident_memory_bytes',
        stat: 'max',
        over: '1 minute',
        above: 2e9,
        for: '5 minutes',
        severity: 'P2',
      },
    ],
  },

  gdpr: {
    subject: { table: 'users', id: 'id', email: 'email' },
    // Who else holds data of the people, asked where there is a key for it.
    processors: ['sendgrid', { processor: 'twilio', ids: 'users.phone' }],
    tables: {
      contacts: { erase: 'delete' },
      groups: { erase: 'delete' },
      contact_groups: { erase: 'delete' },
      tags: { erase: 'delete' },
      suggestions: { erase: 'delete' },
      voice_notes: { erase: 'delete' },
      interaction_logs: { erase: 'delete' },
      availability_preferences: { erase: 'delete' },
      notification_preferences: { erase: 'delete' },
      // Tokens are of no use to the person, and of much use to a thief.
      google_accounts: { export: ['user_id', 'scopes', 'last_synced_at'], erase: 'delete' },
      calendar_events: { erase: 'delete' },
      notifications: { erase: 'delete' },
      sms_replies: { erase: 'delete' },
      login_attempts: { link: { column: 'email', to: 'email' }, erase: 'delete' },
      audit_logs: { erase: { anonymise: ['user_id', 'ip_address'] } },
    },
    buckets: [{ bucket: 'voice-notes', prefix: '{id}/' }],
  },

  webhooks: {
    // STOP, START and HELP are kept in Caretaker's ledger of consent and answered; the rest is a reply to a suggestion.
    twilio: {
      on: {
        'message.received': async ({ data }, tx) => {
          await tx.execute(
            `insert into sms_replies (user_id, twilio_sid, body)
             select (select id from users where phone = message ->> 'From' order by created_at limit 1), message ->> 'MessageSid', message ->> 'Body'
             from (select $1::jsonb as message) event on conflict (twilio_sid) do nothing`,
            [JSON.stringify(data.object)],
          )
        },
        'message.delivered': becomes('delivered'),
        'message.undelivered': becomes('failed'),
        'message.failed': becomes('failed'),
      },
      replies: {
        stop: 'You will get no more messages from CatchUp. Reply START to get them again.',
        start: 'Welcome back to CatchUp. Reply STOP to end messages.',
        help: 'CatchUp reminds you of people you want to keep in touch with. Reply STOP to end messages.',
      },
    },
    // Addresses that bounce are kept from being written to again.
    sendgrid: {
      on: { 'email.delivered': becomes('delivered'), 'email.bounce': becomes('bounced'), 'email.dropped': becomes('failed') },
    },
  },
})

/** What became of a message: Twilio names it by its SID, SendGrid by its id and, after a dot, what it did with it. */
function becomes(status: 'delivered' | 'bounced' | 'failed'): WebhookHandler {
  return async ({ data }, tx) => {
    const id = data.object.MessageSid ?? data.object.sg_message_id
    if (typeof id === 'string') await tx.execute('update notifications set status = $2 where provider_id = $1', [id.split('.')[0], status])
  }
}

/** One suggestion a contact at a time: a run that is repeated suggests nobody twice. */
function suggestContacts(): AppJobFunction {
  return (app, run) =>
    app.db.transaction(async (tx) => {
      const suggested = await tx.execute(
        `insert into suggestions (user_id, contact_id, trigger_type, reasoning)
         select c.user_id, c.id, 'time_since_contact', 'Not heard of since ' || to_char(coalesce(last.at, c.created_at), 'YYYY-MM-DD')
         from contacts c
         left join lateral (select max(l.interacted_at) as at from interaction_logs l where l.contact_id = c.id) last on true
         where not c.archived and coalesce(last.at, c.created_at) < now() - c.contact_every
           and not exists (select from suggestions s where s.user_id = c.user_id and s.contact_id = c.id and s.status in ('pending', 'snoozed'))`,
      )
      await run.finish(tx, { suggested })
    })
}
