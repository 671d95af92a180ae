import { durationMs, type Policy } from '../config/index.ts'

export type Keep = NonNullable<NonNullable<Policy['backup']>['keep']>

export interface Dated {
  id: string
  createdAt: Date
}

export interface RetentionPlan {
  /** Each with the reasons to keep it. */
  keep: { id: string; because: string[] }[]
  remove: string[]
}

/**
 * Which of `backups` (complete and sound ones: nothing else counts as a copy) the policy keeps. Of each of the last
 * `daily` days that have one, the newest; so for weeks and months; and of each hour within `hourly`. Days are UTC's.
 * The newest is kept whatever the policy says.
 */
export function planRetention(backups: readonly Dated[], keep: Keep, now: Date): RetentionPlan {
  const newestFirst = [...backups].sort((a, b) => b.createdAt.getTime() - a.createdAt.getTime() || (a.id < b.id ? 1 : -1))
  const reasons = new Map<string, string[]>(newestFirst.map((backup) => [backup.id, []]))
  const note = (backup: Dated, why: string) => reasons.get(backup.id)?.push(why)

  const [newest] = newestFirst
  if (newest !== undefined) note(newest, 'the newest')
  const period = (count: number | undefined, name: string, key: (at: Date) => string) => {
    const seen = new Set<string>()
    for (const backup of newestFirst) {
      if (seen.size >= (count ?? 0)) break
      const bucket = key(backup.createdAt)
      if (seen.has(bucket)) continue
      seen.add(bucket)
      note(backup, `${name} ${bucket}`)
    }
  }
  period(keep.daily, 'day', dayOf)
  period(keep.weekly, 'week of', (at) => dayOf(new Date(at.getTime() - ((at.getUTCDay() + 6) % 7) * 86_400_000)))
  period(keep.monthly, 'month', (at) => dayOf(at).slice(0, 7))
  if (keep.hourly !== undefined) {
    const since = now.getTime() - durationMs(keep.hourly)
    const recent = newestFirst.filter((backup) => backup.createdAt.getTime() >= since)
    const seen = new Set<string>()
    for (const backup of recent) {
      const hour = backup.createdAt.toISOString().slice(0, 13)
      if (!seen.has(hour)) note(backup, `hour ${hour}`)
      seen.add(hour)
    }
  }
  return {
    keep: newestFirst.flatMap((backup) => {
      const because = reasons.get(backup.id) ?? []
      return because.length > 0 ? [{ id: backup.id, because }] : []
    }),
    remove: newestFirst.filter((backup) => (reasons.get(backup.id) ?? []).length === 0).map((backup) => backup.id),
  }
}

function dayOf(at: Date): string {
  return at.toISOString().slice(0, 10)
}
