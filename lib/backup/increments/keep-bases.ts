import type { Context } from '../../platform/context.ts'
import type { Dated, RetentionPlan } from '../retention.ts'
import { incrementsPolicy } from './policy.ts'

/**
 * Retention as `plan` has it, but for the full backups that increments go on from: those within `backup.increments.keep`,
 * and the newest before it, without which its first hours could not be restored.
 */
export function keepBases(ctx: Pick<Context, 'config' | 'clock'>, backups: readonly Dated[], plan: RetentionPlan): RetentionPlan {
  if (ctx.config.backup?.increments === undefined) return plan
  const since = ctx.clock.now().getTime() - incrementsPolicy(ctx).keepMs
  const newestFirst = [...backups].sort((a, b) => b.createdAt.getTime() - a.createdAt.getTime())
  const before = newestFirst.find((backup) => backup.createdAt.getTime() < since)
  const bases = new Set(newestFirst.filter((backup) => backup.createdAt.getTime() >= since || backup === before).map((backup) => backup.id))
  const spared = plan.remove.filter((id) => bases.has(id))
  return {
    keep: [...plan.keep, ...spared.map((id) => ({ id, because: ['increments go on from it'] }))],
    remove: plan.remove.filter((id) => !bases.has(id)),
  }
}
