import type { PrunableAlerts } from './alerts/index.ts'
// Queries alone: every clock asks them.
import { alertsWait, notifyWaits } from './alerts/waiting.ts'
import type { JobStep, Policy, Schedule } from './config/index.ts'
import { nearest } from './config/index.ts'
import type { Elsewhere } from './gdpr/index.ts'
import { claimIfIdle, housekeepingJob, type Job, type Pruning, planHousekeeping, resolveSchedule } from './jobs/index.ts'
import { CaretakerError } from './platform/errors.ts'
import type { Prunable } from './webhooks/index.ts'

/*
 * The one list of jobs: name, schedule, verb. Verbs are imported when they run, so that a function which only claims
 * slots does not carry what they need.
 */

interface BuiltIn extends Omit<Job, 'schedule'> {
  /** Five cron fields, in the app's time zone; null for a job that runs when work waits for it. */
  schedule: string | null
  /** Whether the policy has the part this job works on. */
  on(policy: Policy): boolean
}

/** What else holds data of people, beside the tables that a foreign key leads to: an erasure empties it too. */
export const personElsewhere: readonly Elsewhere[] = [
  {
    name: 'webhook events',
    forget: async (ctx, identifiers) => {
      const { forgotten, unreadable } = await (await import('./webhooks/index.ts')).forgetPersonInEvents(ctx, identifiers)
      return {
        records: forgotten,
        ...(unreadable > 0
          ? { notReached: `${unreadable} stored webhook events: they were encrypted with another ENCRYPTION_KEY and cannot be searched.` }
          : {}),
      }
    },
  },
]

const builtIn: readonly BuiltIn[] = [
  {
    name: 'health',
    description: 'Check every dependency and note how it stands',
    schedule: '* * * * *',
    on: () => true,
    run: async (ctx, run) => {
      const outcome = await (await import('./health/index.ts')).healthJob(ctx, run)
      // What it has found is judged now rather than with the next tick.
      if (outcome.status === 'done') await claimIfIdle(ctx, 'alerts')
      return outcome
    },
    plan: async (ctx) => (await import('./health/index.ts')).planHealth(ctx),
  },
  {
    name: 'metrics',
    description: 'Ask the gauges that are due, count what jobs and log drains told, and sum complete hours up',
    schedule: '* * * * *',
    on: () => true,
    run: async (ctx, run) =>
      (await import('./metrics/index.ts')).metricsJob(ctx, run, async (asked) => (await import('./health/index.ts')).healthNow(asked)),
    plan: async (ctx) => (await import('./metrics/index.ts')).planMetrics(ctx),
  },
  {
    name: 'alerts',
    description: 'Look at every rule, check and event, and open and end incidents',
    // After each look at health, and when something happened.
    schedule: null,
    on: () => true,
    run: async (ctx) => {
      const [{ alertsJob }, { alertSources }] = await Promise.all([import('./alerts/index.ts'), import('./alert-sources.ts')])
      const outcome = await alertsJob(ctx, alertSources)
      if (await notifyWaits(ctx)) await claimIfIdle(ctx, 'notify')
      return outcome
    },
    plan: async (ctx) => (await import('./alerts/index.ts')).planAlerts(ctx, (await import('./metrics/index.ts')).knownMetrics(ctx.config)),
    pending: alertsWait,
  },
  {
    name: 'notify',
    description: 'Tell people of incidents',
    schedule: null,
    on: () => true,
    run: async (ctx) => (await import('./alerts/index.ts')).notifyJob(ctx),
    plan: async (ctx) => (await import('./alerts/index.ts')).planNotify(ctx),
    pending: notifyWaits,
  },
  {
    name: 'webhooks',
    description: 'Apply the webhook events that wait in the inbox',
    schedule: null,
    on: (policy) => policy.webhooks !== undefined,
    run: async (ctx, run) => {
      const outcome = await (await import('./webhooks/index.ts')).processInboxJob(ctx, run)
      // What its handlers told subscribers goes out now rather than with the next tick.
      if (ctx.config.webhooks?.subscribers !== undefined) await claimIfIdle(ctx, 'webhooks-deliver')
      return outcome
    },
    plan: async (ctx) => (await import('./webhooks/index.ts')).planInbox(ctx),
    pending: async (ctx) =>
      // What stands behind an earlier event of its object, which waits for its next attempt, cannot be applied yet.
      waits(
        ctx,
        `select exists (
           select from caretaker.inbox i
           where i.state = 'received' and i.next_attempt_at <= now() and not exists (
             select from caretaker.inbox earlier
             where earlier.state = 'received' and earlier.object_tag = i.object_tag and earlier.next_attempt_at > now()
               and (earlier.position, earlier.id) < (i.position, i.id))
         ) as waits`,
      ),
  },
  {
    name: 'webhooks-deliver',
    description: 'Tell subscribers what happened',
    schedule: null,
    on: (policy) => policy.webhooks?.subscribers !== undefined,
    run: async (ctx, run) => (await import('./webhooks/index.ts')).deliverJob(ctx, run),
    plan: async (ctx) => (await import('./webhooks/index.ts')).planDeliver(ctx),
    pending: async (ctx) =>
      waits(
        ctx,
        `select exists (select from caretaker.outbox where forwarded_at is null) or exists (
           select from caretaker.deliveries d left join caretaker.subscribers s on s.name = d.subscriber
           where d.state = 'waiting' and d.next_attempt_at <= now() and (s.open_until is null or s.open_until <= now())
         ) as waits`,
      ),
  },
  {
    name: 'webhooks-reconcile',
    description: 'Ask Stripe for the events that never arrived',
    schedule: '20 * * * *',
    on: (policy) => policy.webhooks?.stripe !== undefined && policy.webhooks.stripe.reconcile !== false,
    run: async (ctx, run) => (await import('./webhooks/index.ts')).reconcileJob(ctx, run),
    plan: async (ctx) => (await import('./webhooks/index.ts')).planReconcile(ctx),
  },
  {
    name: 'webhooks-watch',
    description: 'Find the providers from which nothing comes that usually would',
    schedule: '*/10 * * * *',
    on: (policy) => policy.webhooks !== undefined,
    run: async (ctx, run) => (await import('./webhooks/index.ts')).watchSourcesJob(ctx, run),
    plan: async (ctx) => (await import('./webhooks/index.ts')).planWatchSources(ctx),
  },
  {
    name: 'gdpr',
    description: 'Carry out the requests of data subjects',
    schedule: null,
    on: (policy) => policy.gdpr !== undefined,
    run: async (ctx, run) => (await import('./gdpr/index.ts')).processRequestsJob(ctx, run, personElsewhere),
    plan: async (ctx) => (await import('./gdpr/index.ts')).planRequests(ctx),
    pending: async (ctx) =>
      // One that was left open by the last run will hardly fare better a minute later: it is tried again after an hour.
      waits(
        ctx,
        `with tried as (select coalesce(max(slot), '-infinity') as last from caretaker.runs where job = 'gdpr')
         select exists (
           select from caretaker.gdpr_requests r, tried
           where
             -- To be carried out.
             (r.kind in ('export', 'erase') and r.state in ('verified', 'in_progress', 'waiting')
               and r.review is distinct from 'needed' and coalesce(r.not_before <= now(), true)
               and (tried.last < now() - interval '1 hour' or (r.state = 'verified' and greatest(r.received_at, r.not_before) > tried.last)))
             -- A code to be mailed.
             or (r.state = 'received' and r.named is not null and (r.received_at > tried.last or tried.last < now() - interval '10 minutes'))
             -- A deadline that comes near, or has passed.
             or (r.state in ('received', 'verified', 'in_progress', 'waiting') and tried.last < now() - interval '1 hour'
               and r.due_at <= now() + interval '7 days'
               and coalesce(r.reminded_days, 99) > case when r.due_at <= now() then -1 when r.due_at <= now() + interval '2 days' then 2 else 7 end)
             -- An export to be announced by mail; the file of one whose time is over.
             or (r.state = 'done' and r.named is not null and r.file_expires_at > now() and tried.last < now() - interval '10 minutes')
             or (r.receipt ? 'object' and r.file_expires_at <= now() and tried.last < now() - interval '1 hour')
         ) or exists (
           -- A row that was kept of somebody erased, and whose time is over.
           select from caretaker.gdpr_kept k, tried where k.erased_at is null and k.until <= now() and tried.last < now() - interval '1 hour'
         ) as waits`,
      ),
  },
  {
    name: 'gdpr-lint',
    description: 'Look for personal data that the policy does not describe',
    schedule: '45 4 * * *',
    on: (policy) => policy.gdpr !== undefined,
    run: async (ctx) => (await import('./gdpr/index.ts')).lintJob(ctx),
    plan: async () => (await import('./gdpr/index.ts')).planLint(),
  },
  {
    name: 'retention',
    description: 'Purge, archive and anonymise by every retention rule',
    schedule: null,
    on: (policy) => (policy.retention?.length ?? 0) > 0,
    ...steps([{ retention: 'all' }]),
  },
  {
    name: 'backup',
    description: 'Back up the database, encrypted to the recipients',
    schedule: '0 3 * * *',
    on: (policy) => policy.backup !== undefined,
    run: async (ctx, run) => (await import('./backup/index.ts')).backupJob(ctx, run, deploymentOf(ctx.config)),
    plan: async (ctx) => (await import('./backup/index.ts')).planBackup(ctx),
    assist: async (ctx, callForHelp) =>
      ctx.config.backup !== undefined && (await import('./backup/index.ts')).assistBackup(ctx, callForHelp),
  },
  {
    name: 'backup-increment',
    description: 'Store what changed since the last increment, so that any moment can be restored',
    schedule: '0 * * * *',
    on: (policy) => policy.backup?.increments !== undefined,
    run: async (ctx, run) => (await import('./backup/index.ts')).incrementJob(ctx, run),
    plan: async (ctx) => (await import('./backup/index.ts')).planIncrement(ctx),
  },
  {
    name: 'backup-verify',
    description: 'Restore the newest backup into the scratch database and prove that it is equal',
    schedule: '0 5 * * 0',
    on: (policy) => policy.backup !== undefined && policy.backup.drill !== false,
    run: async (ctx, run) => (await import('./backup/index.ts')).backupVerifyJob(ctx, run),
    plan: async (ctx) => (await import('./backup/index.ts')).planBackupVerify(ctx),
  },
  {
    name: 'config-version',
    description: 'Store the policy and the hashes of the schema when they have changed',
    schedule: '30 * * * *',
    on: (policy) => policy.backup !== undefined,
    run: async (ctx) => (await import('./backup/index.ts')).configVersionJob(ctx, deploymentOf(ctx.config)),
    plan: async (ctx) => (await import('./backup/index.ts')).planConfigVersion(ctx, deploymentOf(ctx.config)),
  },
  {
    name: 'housekeeping',
    description: "Delete what `history` no longer keeps of Caretaker's own runs, events and counters",
    schedule: '15 4 * * *',
    on: () => true,
    run: (ctx, run) => housekeepingJob(ctx, run, prunings),
    plan: (ctx) => planHousekeeping(ctx, prunings),
  },
]

/** Names that jobs of the app cannot have. */
export const builtInNames: readonly string[] = builtIn.map((job) => job.name)

/** What of the other domains' own tables housekeeping deletes, beside the ledger's. */
const prunings: readonly Pruning[] = [
  webhookPruning('payloads', 'payloads of webhook events that are done', 'caretaker.inbox'),
  webhookPruning('entries', 'webhook events', 'caretaker.inbox'),
  webhookPruning('objects', 'progress of objects no webhook spoke of since', 'caretaker.inbox_objects'),
  webhookPruning('messages', 'messages to subscribers', 'caretaker.messages'),
  webhookPruning('logCounts', 'minutely counts of log drains', 'caretaker.log_counts'),
  webhookPruning('logBatches', 'batches of log drains that were counted', 'caretaker.log_batches'),
  {
    // Before the rows that this ends are looked at.
    name: 'what is open of environments and deployments that are gone',
    target: 'caretaker.alerts',
    count: async (ctx) => (await import('./alerts/index.ts')).countAbandoned(ctx),
    prune: async (ctx, limit) => (await import('./alerts/index.ts')).endAbandoned(ctx, limit),
  },
  alertPruning('notifications', 'what people were told'),
  alertPruning('silences', 'silences that are over'),
  alertPruning('alerts', 'alerts of conditions that are well'),
  {
    name: 'incidents that ended two years ago',
    target: 'caretaker.incidents',
    count: async (ctx) => (await import('./alerts/index.ts')).countOldIncidents(ctx),
    prune: async (ctx, limit) => (await import('./alerts/index.ts')).pruneIncidents(ctx, limit),
  },
  webhookPruning('counts', 'hourly counts of webhooks', 'caretaker.webhook_counts'),
]

function alertPruning(what: PrunableAlerts, name: string): Pruning {
  return {
    name,
    target: `caretaker.${what}`,
    count: async (ctx) => (await import('./alerts/index.ts')).countPrunableAlerts(ctx, what),
    prune: async (ctx, limit) => (await import('./alerts/index.ts')).pruneAlerts(ctx, what, limit),
  }
}

function webhookPruning(what: Prunable, name: string, target: string): Pruning {
  return {
    name,
    target,
    count: async (ctx) => (await import('./webhooks/index.ts')).countPrunable(ctx, what),
    prune: async (ctx, limit) => (await import('./webhooks/index.ts')).prune(ctx, what, limit),
  }
}

/**
 * Every job of the policy: the built-in ones whose part is there, then the app's own.
 * @throws {CaretakerError} `policy_invalid` for an unusable schedule, an unknown name in `schedules`, or a name taken twice.
 */
export function jobs(policy: Policy): Job[] {
  const own = Object.entries(policy.jobs ?? {})
  for (const [name] of own) {
    if (!/^[a-z0-9][a-z0-9-]{0,62}$/.test(name))
      throw new CaretakerError('policy_invalid', `jobs.${name}: found "${name}", expected lower-case letters, digits and hyphens.`)
    if (name === 'tick' || builtInNames.includes(name))
      throw new CaretakerError('policy_invalid', `jobs.${name}: the name is taken by a built-in job.`)
  }
  const known = [...builtInNames, ...own.map(([name]) => name)]
  for (const name of Object.keys(policy.schedules ?? {})) {
    if (known.includes(name)) continue
    const near = nearest(name, known)
    throw new CaretakerError(
      'policy_invalid',
      `schedules.${name}: there is no job of that name${near === undefined ? '' : `; did you mean "${near}"?`}`,
    )
  }
  const schedule = (name: string, otherwise: Schedule | null | undefined): Pick<Job, 'schedule' | 'heartbeat'> => {
    const wanted = policy.schedules?.[name] ?? otherwise ?? null
    if (wanted === null || wanted === false) return { schedule: null }
    return {
      schedule: resolveSchedule(name, wanted, policy.app.timezone ?? 'UTC'),
      ...(typeof wanted === 'string' || wanted.heartbeat === undefined ? {} : { heartbeat: wanted.heartbeat }),
    }
  }
  return [
    ...builtIn.filter((job) => job.on(policy)).map(({ on: _on, ...job }) => ({ ...job, ...schedule(job.name, job.schedule) })),
    ...own.map(([name, job]) => ({
      name,
      description: job.description ?? job.steps.map(describeStep).join(', '),
      ...schedule(name, job.schedule),
      ...steps(job.steps),
    })),
  ]
}

/** What is deployed beside the policy itself. */
export function deploymentOf(policy: Policy): { jobs: { name: string; schedule: string | null }[] } {
  return {
    jobs: jobs(policy).map(({ name, schedule }) => ({
      name,
      schedule: schedule === null ? null : `${schedule.cron} ${schedule.timezone}`,
    })),
  }
}

/** The job of that name. @throws {CaretakerError} `job_unknown`, with the nearest name. */
export function findJob(all: readonly Job[], name: string): Job {
  const job = all.find((one) => one.name === name)
  if (job !== undefined) return job
  const near = nearest(
    name,
    all.map((one) => one.name),
  )
  throw new CaretakerError(
    'job_unknown',
    `There is no job "${name.slice(0, 60)}"${near === undefined ? '' : `; did you mean "${near}"?`}${near === undefined ? '.' : ''} Known: ${all.map((one) => one.name).join(', ')}.`,
  )
}

function steps(list: JobStep[]): Pick<Job, 'run' | 'plan'> {
  return {
    run: async (ctx, run) => (await import('./maintenance/index.ts')).runSteps(ctx, list, run, await appTasks()),
    plan: async (ctx) => (await import('./maintenance/index.ts')).planSteps(ctx, list, await appTasks()),
  }
}

/** Steps that call the app or a function of the policy are another domain's. */
async function appTasks() {
  return (await import('./app-jobs/index.ts')).appTasks
}

function describeStep(step: JobStep): string {
  if ('sql' in step) return 'run SQL'
  if ('run' in step) return 'run a function of the policy'
  if ('call' in step) return `call ${step.call.method ?? 'POST'} ${step.call.path}`
  const [verb, what] = Object.entries(step).find(([key]) => key !== 'budget') as [string, string | (string | { table: string })[]]
  if (typeof what === 'string') return `${verb} ${what}`
  return `${verb} ${what.length > 3 ? `${what.length} of them` : what.map((one) => (typeof one === 'string' ? one : one.table)).join(', ')}`
}

async function waits(ctx: Parameters<NonNullable<Job['pending']>>[0], sql: string): Promise<boolean> {
  const [row] = await ctx.db.query<{ waits: boolean }>(sql)
  return row?.waits === true
}
