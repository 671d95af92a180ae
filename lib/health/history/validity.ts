import type { Context } from '../../platform/context.ts'

const leastMs = 3 * 60_000

/**
 * How long a look says how things stand, ms: until the job should have looked twice again, at least three minutes. What
 * comes after that without a look is unknown.
 */
export async function validityMs(ctx: Pick<Context, 'config'>, at: Date): Promise<number> {
  const wanted = ctx.config.schedules?.health
  if (wanted === undefined) return leastMs
  if (wanted === false) return 10 * 60_000
  const { cron, timezone } = typeof wanted === 'string' ? { cron: wanted, timezone: undefined } : wanted
  const { Cron } = await import('croner')
  const [first, second] = new Cron(cron, { timezone: timezone ?? ctx.config.app.timezone ?? 'UTC', mode: '5-part', paused: true }).nextRuns(
    2,
    at,
  )
  return first === undefined || second === undefined ? leastMs : Math.max(leastMs, 2 * (second.getTime() - first.getTime()) + 60_000)
}
