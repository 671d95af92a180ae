import { nearest } from '../config/index.ts'
import type { Context } from '../platform/context.ts'
import { environmentOf } from '../platform/environment.ts'
import { CaretakerError, sqlState } from '../platform/errors.ts'
import type { JobOutcome, PlanLine } from '../platform/job.ts'
import { channelNames } from './channels/names.ts'
import { openChannel } from './channels/open-channel.ts'
import { evaluateAlerts } from './evaluate-alerts.ts'
import { knownEvents } from './events.ts'
import { sendNotifications } from './send-notifications.ts'
import type { AlertSources } from './sources.ts'

/** Steps every rule. What fires is a finding, not a failure of the job. */
export async function alertsJob(ctx: Context, sources: AlertSources): Promise<JobOutcome> {
  return { status: 'done', result: { ...(await evaluateAlerts(ctx, sources)) } }
}

/** Sends what people are to be told. A channel that does not take it is a finding, not a failure of the job. */
export async function notifyJob(ctx: Context): Promise<JobOutcome> {
  return { status: 'done', result: { ...(await sendNotifications(ctx)) } }
}

/** Every rule and channel, and what is wrong with it: a metric that nothing tells, a setting that is missing. Asks nobody. */
export async function planAlerts(ctx: Context, known: readonly string[]): Promise<PlanLine[]> {
  const lines: PlanLine[] = []
  for (const rule of ctx.config.alerts?.rules ?? []) {
    const metrics = [rule.metric, ...(rule.per === undefined ? [] : [rule.per.metric])]
    const warnings = metrics.flatMap((metric) => unknownMetric(metric, known))
    lines.push({
      action: `watch ${rule.name}${rule.enabled === false ? ' (off)' : ''}`,
      target: rule.metric,
      count: null,
      unit: 'objects',
      ...(warnings.length === 0 ? {} : { warnings }),
    })
  }
  for (const topic of Object.keys(ctx.config.alerts?.events ?? {})) {
    const near = knownEvents.includes(topic) ? undefined : nearest(topic, knownEvents)
    const warnings =
      near === undefined
        ? []
        : [`no event of Caretaker's is called "${topic}"; did you mean "${near}"? As it is, it waits for the app's own`]
    lines.push({
      action: `watch ${topic}`,
      target: 'caretaker.outbox',
      count: null,
      unit: 'objects',
      ...(warnings.length === 0 ? {} : { warnings }),
    })
  }
  for (const name of channelNames(ctx)) {
    const wrong = await openChannel(ctx, name).then(
      () => undefined,
      (error: unknown) => (error instanceof CaretakerError ? error.detail : 'cannot be opened'),
    )
    lines.push({
      action: `tell ${name}`,
      target: name,
      count: null,
      unit: 'objects',
      ...(wrong === undefined ? {} : { warnings: [wrong] }),
    })
  }
  return lines
}

/** A series may be told by the app itself, so that a name nobody knows yet is a warning and no error. */
function unknownMetric(metric: string, known: readonly string[]): string[] {
  if (known.includes(metric)) return []
  const near = nearest(metric, known)
  return [
    `nothing of Caretaker's own or of \`metrics.gauges\` tells "${metric}"${near === undefined ? '' : `; did you mean "${near}"?`} The rule waits until the app tells it.`,
  ]
}

/** What would be sent now. */
export async function planNotify(ctx: Context): Promise<PlanLine[]> {
  const rows = await ctx.db
    .query<{ channel: string; count: number }>(
      `select channel, count(*)::int as count from caretaker.notifications where environment = $1 and state = 'waiting' group by channel order by channel`,
      [environmentOf(ctx)],
    )
    .catch((error: unknown) => {
      // A database that has never seen Caretaker has nobody to tell anything.
      if (sqlState(error) === '42P01' || sqlState(error) === '3F000') return []
      throw error
    })
  return rows.map(({ channel, count }) => ({ action: `tell ${channel}`, target: 'caretaker.notifications', count, unit: 'rows' }))
}
