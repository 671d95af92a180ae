import { durationMs, type GaugePolicy } from '../config/index.ts'
import type { Context } from '../platform/context.ts'
import { environmentOf } from '../platform/environment.ts'
import { describeError } from '../platform/log.ts'
import { Batch } from './batch.ts'
import { setMark } from './marks.ts'
import { readGauge } from './read-gauge.ts'
import { storeBatch } from './store-batch.ts'

export interface AskedGauges {
  asked: number
  /** Gauges whose query failed, with what went wrong; they are asked again when they are due again. */
  failed: Record<string, string>
}

/** A tick comes a little before or after its minute. */
const slackMs = 30_000

/** Asks the gauges of the policy that are due. One that fails is a finding: the others are asked all the same. */
export async function askGauges(ctx: Context, shouldStop: () => boolean = () => false): Promise<AskedGauges> {
  const environment = environmentOf(ctx)
  const now = ctx.clock.now()
  const gauges = Object.entries(ctx.config.metrics?.gauges ?? {})
  const marks = await ctx.db.query<{ name: string; at: Date }>(
    `select name, at from caretaker.metric_marks where environment = $1::text and name like 'gauge:%'`,
    [environment],
  )
  const askedAt = new Map(marks.map(({ name, at }) => [name.slice('gauge:'.length), at.getTime()]))
  const outcome: AskedGauges = { asked: 0, failed: {} }
  for (const [name, gauge] of gauges) {
    if (shouldStop()) break
    const everyMs = intervalMs(gauge)
    const last = askedAt.get(name)
    if (last !== undefined && last <= now.getTime() && last + everyMs - slackMs > now.getTime()) continue
    outcome.asked++
    try {
      await askGauge(ctx, environment, name, gauge, now)
    } catch (error) {
      const { message } = describeError(error)
      outcome.failed[name] = String(message)
      ctx.log.warn({ err: error, gauge: name }, 'a gauge of the policy could not be asked')
      await setMark(ctx.db, environment, `gauge:${name}`, now, { error: String(message) })
    }
  }
  return outcome
}

export function intervalMs(gauge: GaugePolicy): number {
  return durationMs(gauge.every ?? '5 minutes')
}

async function askGauge(ctx: Context, environment: string, name: string, gauge: GaugePolicy, now: Date): Promise<void> {
  const batch = new Batch()
  const identity = {
    name,
    kind: 'gauge',
    source: 'gauge',
    unit: gauge.unit,
    help: gauge.help,
    everySeconds: intervalMs(gauge) / 1_000,
  } as const
  for (const { labels, value } of await readGauge(ctx, name, gauge)) batch.add({ ...identity, labels }, value, now)
  await ctx.db.transaction(async (tx) => {
    await storeBatch(tx, environment, batch, { now, mostSeries: ctx.config.metrics?.mostSeries })
    await setMark(tx, environment, `gauge:${name}`, now)
  })
}
