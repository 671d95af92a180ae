import * as z from 'zod/mini'
import { CaretakerError } from './errors.ts'

interface Variable<T> {
  group: string
  doc: string
  schema: z.ZodMiniType<T>
  /** Other names the same setting goes by. */
  aliases?: readonly string[]
  /** Shown in .env.example; a secret has none. */
  example?: string
}

function variable<T>(
  group: string,
  doc: string,
  schema: z.ZodMiniType<T>,
  more: Pick<Variable<T>, 'aliases' | 'example'> = {},
): Variable<T> {
  return { group, doc, schema, ...more }
}

const text = () => z.optional(z.string())
const secret = (minimum = 8) => z.optional(z.string().check(z.minLength(minimum, `expected at least ${minimum} characters`)))
const httpUrl = () => z.optional(z.string().check(z.regex(/^https?:\/\/[^\s]+$/, 'expected an http:// or https:// URL')))
const sentryDsn = () =>
  z.optional(z.string().check(z.regex(/^https?:\/\/\w+@[^\s/@]+\/(?:\S*\/)?\d+$/, 'expected https://KEY@HOST/PROJECT')))
const postgresUrl = () =>
  z.optional(z.string().check(z.regex(/^postgres(ql)?:\/\/[^\s]+$/, 'expected postgres://USER:PASSWORD@HOST:PORT/DATABASE')))
const hex64 = () =>
  z.optional(z.string().check(z.regex(/^[0-9a-fA-F]{64}$/, 'expected exactly 64 hexadecimal digits (openssl rand -hex 32)')))
const count = (fallback: number) =>
  z.pipe(
    z._default(z.string().check(z.regex(/^[1-9]\d{0,4}$/, 'expected a whole number from 1 to 99999')), String(fallback)),
    z.transform((value: string) => Number(value)),
  ) as unknown as z.ZodMiniType<number>
const onOff = () => z.optional(z.enum(['on', 'off'], 'expected on or off'))
const levels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const
const level = () => z._default(z.enum(levels, `expected ${levels.join(', ')}`), 'info') as unknown as z.ZodMiniType<string>

/** Every environment variable a function or the CLI reads. `.env.example` is generated from here and a test holds it so. */
export const variables = {
  DATABASE_URL: variable(
    'Database',
    'Direct connection or Supavisor session mode (port 5432). Jobs, backups and restores use it.',
    postgresUrl(),
    {
      aliases: ['SUPABASE_DB_URL'],
    },
  ),
  DATABASE_POOLED_URL: variable(
    'Database',
    'Supavisor transaction mode (port 6543), for request handlers. Default: DATABASE_URL.',
    postgresUrl(),
  ),
  DATABASE_POOL_MAX: variable('Database', 'Connections one function instance may hold; a job needs 3, and may have them.', count(5), {
    example: '5',
  }),
  DATABASE_CA: variable(
    'Database',
    "PEM (or a path to it) of the database's certificate authority; with it the server is verified.",
    text(),
  ),
  DRILL_DATABASE_URL: variable('Database', 'A scratch database that restore drills may overwrite.', postgresUrl()),

  SUPABASE_URL: variable('Supabase', 'https://PROJECT.supabase.co', httpUrl(), { aliases: ['NEXT_PUBLIC_SUPABASE_URL'] }),
  SUPABASE_ANON_KEY: variable('Supabase', 'The publishable (anon) key.', secret(16), { aliases: ['NEXT_PUBLIC_SUPABASE_ANON_KEY'] }),
  SUPABASE_SERVICE_ROLE_KEY: variable('Supabase', 'The secret (service role) key.', secret(16), { aliases: ['SUPABASE_SERVICE_KEY'] }),

  CRON_SECRET: variable(
    'Caretaker',
    'What hosts present to /api/cron and /api/worker. Unset means closed. At least 16 characters.',
    secret(16),
  ),
  METRICS_KEY: variable(
    'Caretaker',
    'What Prometheus presents to /metrics and the app to /metrics/ingest, where it shall not be an operator key. At least 16 characters.',
    secret(16),
  ),
  APP_WEBHOOK_SECRET: variable(
    'Caretaker',
    'Signs the calls of jobs to the app (Standard Webhooks): whsec_ and the base64 of 32 random bytes; several, separated by commas, while one is rotated.',
    secret(16),
  ),
  ENCRYPTION_KEY: variable('Caretaker', 'Field encryption and keyed hashes: 64 hexadecimal digits (openssl rand -hex 32).', hex64()),
  PUBLIC_URL: variable(
    'Caretaker',
    'Where these functions are reached from outside; Twilio signs it. Netlify sets URL; on Vercel the default is the production domain.',
    httpUrl(),
    { aliases: ['URL'] },
  ),
  VERCEL_PROJECT_PRODUCTION_URL: variable('Caretaker', "Set by Vercel: the production domain's host.", text()),
  VERCEL_URL: variable('Caretaker', "Set by Vercel: the deployment's host, which Deployment Protection may close.", text()),
  CARETAKER_ENVIRONMENT: variable('Caretaker', 'production, staging or development. Default: what the host says.', text(), {
    aliases: ['VERCEL_ENV', 'CONTEXT', 'NODE_ENV'],
  }),
  CARETAKER_DEPLOYMENT: variable(
    'Caretaker',
    'Which deployment this is, where several with policies of their own work on one database. Default: what the host calls it.',
    text(),
    { aliases: ['VERCEL_PROJECT_ID', 'SITE_ID'] },
  ),
  APP_VERSION: variable(
    'Caretaker',
    'The release shown in /health. Default: the commit the host deployed, else the version of package.json.',
    text(),
    {
      aliases: ['VERCEL_GIT_COMMIT_SHA', 'COMMIT_REF'],
    },
  ),
  AWS_LAMBDA_FUNCTION_MEMORY_SIZE: variable('Caretaker', 'Set by the hosts: MB of memory that a function has.', text()),
  LOG_LEVEL: variable('Caretaker', 'trace, debug, info, warn, error, fatal or silent.', level(), { example: 'info' }),

  BACKUP_STORE: variable('Backups', 'file:///DIR, s3://BUCKET/PREFIX or supabase://BUCKET. Default: backup.store of the policy.', text()),
  BACKUP_RECIPIENTS: variable(
    'Backups',
    'age1…, separated by commas: who can read the backups. Default: backup.recipients of the policy.',
    text(),
  ),
  S3_ENDPOINT: variable('Backups', 'The S3-compatible endpoint for an s3:// store.', httpUrl()),
  S3_REGION: variable('Backups', 'Its region; "auto" for R2.', text()),
  S3_ACCESS_KEY_ID: variable('Backups', 'Access key.', secret(), { aliases: ['AWS_ACCESS_KEY_ID'] }),
  S3_SECRET_ACCESS_KEY: variable('Backups', 'Secret key.', secret(16), { aliases: ['AWS_SECRET_ACCESS_KEY'] }),

  UPSTASH_REDIS_REST_URL: variable('Rate limits', 'Upstash Redis. Without it limits are counted in PostgreSQL.', httpUrl()),
  UPSTASH_REDIS_REST_TOKEN: variable('Rate limits', 'Its token.', secret()),

  STRIPE_SECRET_KEY: variable('Providers', 'Stripe API key (restricted is enough).', secret()),
  STRIPE_WEBHOOK_SECRET: variable('Providers', 'whsec_…; several separated by commas while one is rotated.', secret()),
  TWILIO_ACCOUNT_SID: variable('Providers', 'Twilio account.', text()),
  TWILIO_AUTH_TOKEN: variable('Providers', 'Twilio token; signs its webhooks.', secret()),
  TWILIO_PHONE_NUMBER: variable('Providers', 'The sending number, as +1234567890.', text()),
  TWILIO_AUTH_TOKEN_SECONDARY: variable('Providers', 'The other token while one is promoted: its signatures are accepted too.', secret()),
  SENDGRID_API_KEY: variable('Providers', 'SendGrid API key.', secret()),
  SENDGRID_FROM_EMAIL: variable('Providers', 'The verified sender.', text()),
  SENDGRID_WEBHOOK_PUBLIC_KEY: variable('Providers', "The signed event webhook's verification key.", secret()),
  OPENAI_API_KEY: variable('Providers', 'OpenAI, for its health check.', secret()),
  HUME_API_KEY: variable('Providers', 'Hume AI, for its health check.', secret()),
  MEMBERSTACK_SECRET_KEY: variable('Providers', 'Memberstack, for its health check and erasures.', secret()),
  GDPR_PROCESSOR_SECRET: variable('Providers', 'whsec_…: signs the calls to processors that the policy names by URL.', secret()),
  MAKE_COM_WEBHOOK_URL: variable('Providers', 'Make.com scenario.', httpUrl()),
  MAKE_API_TOKEN: variable('Providers', 'Make.com API token (scope user:read), for its health check.', secret()),
  N8N_WEBHOOK_URL: variable('Providers', 'n8n workflow.', httpUrl()),
  TASKMASTER_WEBHOOK_URL: variable('Providers', 'TaskMaster.', httpUrl()),
  WEBHOOK_SECRETS: variable(
    'Providers',
    'Secrets of `webhooks.sources`: NAME=SECRET, separated by commas; a name twice while its secret is rotated.',
    secret(),
  ),
  SUBSCRIBER_SECRETS: variable(
    'Providers',
    'Secrets that sign what `webhooks.subscribers` are sent: NAME=whsec_…, likewise. Default: one derived from ENCRYPTION_KEY (`webhooks secret NAME`).',
    secret(),
  ),
  GOOGLE_CLIENT_ID: variable('Providers', 'Google OAuth client, for its health check.', text()),
  GOOGLE_CLIENT_SECRET: variable('Providers', 'Google OAuth secret.', secret()),

  STACK_PROJECT_ID: variable('Providers', 'Stack Auth project, for its health check.', text()),
  STACK_SECRET_SERVER_KEY: variable('Providers', "Stack Auth: the project's secret server key, with it.", secret()),
  WEBFLOW_API_TOKEN: variable('Providers', 'Webflow site or workspace token, for its health check.', secret()),

  SENTRY_DSN: variable('Observability', 'Errors are sent there; without it the Sentry client is never loaded.', sentryDsn()),
  SENTRY_CRONS: variable('Observability', 'on or off: check-ins of jobs at Sentry Crons, where SENTRY_DSN is set. Default on.', onOff()),
  HEARTBEAT_URL: variable(
    'Observability',
    'Called by every tick, as healthchecks.io wants it; with {job} in it also by every job under its own name.',
    httpUrl(),
  ),
  POSTHOG_API_KEY: variable('Observability', 'PostHog project key.', secret()),
  POSTHOG_PERSONAL_API_KEY: variable(
    'Observability',
    'A personal key that may read and delete persons: for exports and erasures.',
    secret(),
  ),
  POSTHOG_PROJECT_ID: variable('Observability', "The project's number, with it.", text()),
  POSTHOG_HOST: variable('Observability', 'Default https://us.i.posthog.com.', httpUrl()),
  SLACK_WEBHOOK_URL: variable('Observability', 'Incoming webhook for alerts.', httpUrl()),
  PAGERDUTY_ROUTING_KEY: variable('Observability', 'Integration key of a PagerDuty service (Events API v2).', secret(16)),
  OPSGENIE_API_KEY: variable('Observability', 'Key of an API integration of Opsgenie, or of what speaks its API.', secret(16)),
  ALERT_CHANNEL_SECRETS: variable(
    'Observability',
    'Of channels that go by other names: NAME=VALUE, separated by commas; the address of a Slack or generic webhook, or the key.',
    secret(),
  ),
  GITHUB_TOKEN: variable('Observability', 'For repository_dispatch.', secret()),
  GITHUB_REPO: variable('Observability', 'OWNER/NAME.', text()),
} as const

type Variables = typeof variables
type Value<V> = V extends Variable<infer T> ? T : never
type Present<T> = { readonly [K in keyof T as undefined extends T[K] ? never : K]: T[K] }
type Absent<T> = { readonly [K in keyof T as undefined extends T[K] ? K : never]?: T[K] }
type Values = { [K in keyof Variables]: Value<Variables[K]> }

/** The checked environment: an unset or empty variable is absent, never "". */
export type Env = Present<Values> & Absent<Values>

/**
 * Reads and checks the environment.
 * @throws {CaretakerError} `env_invalid` naming every bad variable and what was expected; never its value.
 */
export function readEnv(source: Record<string, string | undefined> = process.env): Env {
  const issues: { path: string; message: string }[] = []
  const values: Record<string, unknown> = {}
  for (const [name, known] of Object.entries(variables) as [string, Variable<unknown>][]) {
    const [from, raw] = lookUp(source, [name, ...(known.aliases ?? [])])
    const parsed = known.schema.safeParse(raw)
    if (!parsed.success) issues.push({ path: from, message: parsed.error.issues[0]?.message ?? 'not accepted' })
    else if (parsed.data !== undefined) values[name] = parsed.data
  }
  if (issues.length > 0) {
    const list = issues.map((issue) => `${issue.path}: ${issue.message}`).join('; ')
    throw new CaretakerError('env_invalid', `The environment is not usable. ${list}.`, { issues })
  }
  return values as unknown as Env
}

function lookUp(source: Record<string, string | undefined>, names: readonly string[]): [string, string | undefined] {
  for (const name of names) {
    const value = source[name]?.trim()
    if (value !== undefined && value !== '') return [name, value]
  }
  return [names[0] as string, undefined]
}

/** The text of `.env.example`. */
export function envExample(): string {
  const lines = ['# Generated from lib/platform/env.ts by `npm run env:example`. Copy to .env and fill in what you use.', '']
  let group = ''
  for (const [name, known] of Object.entries(variables) as [string, Variable<unknown>][]) {
    if (known.group !== group) {
      if (group !== '') lines.push('')
      group = known.group
      lines.push(`# ${group}`)
    }
    const also = known.aliases === undefined ? '' : ` Also read from ${known.aliases.join(', ')}.`
    lines.push(`# ${known.doc}${also}`, known.example === undefined ? `# ${name}=` : `${name}=${known.example}`)
  }
  return `${lines.join('\n')}\n`
}

/** The variable, or `not_configured` with its name. */
export function requireEnv<K extends keyof Env>(env: Env, name: K, purpose: string): NonNullable<Env[K]> {
  const value = env[name]
  if (value === undefined || value === null) throw new CaretakerError('not_configured', `${purpose} needs ${name}, which is not set.`)
  return value as NonNullable<Env[K]>
}
