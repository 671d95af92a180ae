import { canonicalName, type Policy } from '../../config/index.ts'
import type { Context } from '../../platform/context.ts'
import type { Queryable } from '../../platform/db.ts'
import { environmentOf } from '../../platform/environment.ts'
import { occurrences } from './recurring.ts'

/** One time in which failures were announced. */
export interface MaintenanceWindow {
  /** Of one that was announced by hand, a UUID; of one of the policy its name and when it begins. */
  id: string
  title: string
  body: string | null
  /** Canonical names of checks. What depends on them is covered too. */
  components: readonly string[] | 'all'
  startsAt: Date
  endsAt: Date
  /** When it was announced; null for one of the policy. */
  createdAt: Date | null
  /** Comes from the policy. */
  recurring: boolean
}

/** The windows that are open at an instant. */
export async function maintenanceAt(ctx: Context, at: Date): Promise<MaintenanceWindow[]> {
  return listMaintenance(ctx, { from: at, to: new Date(at.getTime() + 1) })
}

/** The windows that are open at some time in [from, to), by hand and of the policy, in the order in which they begin. */
export async function listMaintenance(
  ctx: Context,
  { from, to }: { from: Date; to: Date },
  db: Queryable = ctx.db,
): Promise<MaintenanceWindow[]> {
  const byHand = await db.query<
    Omit<MaintenanceWindow, 'components' | 'recurring'> & { components: string[] | null } & Record<string, unknown>
  >(
    `select id, title, body, components, starts_at as "startsAt", ends_at as "endsAt", created_at as "createdAt" from caretaker.maintenance_windows
     where environment = $1::text and cancelled_at is null and starts_at < $3::timestamptz and ends_at > $2::timestamptz`,
    [environmentOf(ctx), from, to],
  )
  const windows = [
    ...byHand.map((row): MaintenanceWindow => ({ ...row, components: row.components ?? 'all', recurring: false })),
    ...(await recurringMaintenance(ctx.config, from, to)),
  ]
  return windows.sort((a, b) => a.startsAt.getTime() - b.startsAt.getTime())
}

/** Those of the policy alone. */
export async function recurringMaintenance(policy: Policy, from: Date, to: Date): Promise<MaintenanceWindow[]> {
  const zone = policy.app.timezone ?? 'UTC'
  const windows: MaintenanceWindow[] = []
  for (const window of policy.health?.maintenance ?? [])
    for (const span of await occurrences(window, zone, from, to))
      windows.push({
        id: `${window.name}@${span.startsAt.toISOString()}`,
        title: window.title ?? window.name,
        body: null,
        components: window.components?.map(canonicalName) ?? 'all',
        ...span,
        createdAt: null,
        recurring: true,
      })
  return windows
}

/** Whether one of the windows covers a check: named itself, or something it depends on. */
export function covered(windows: readonly MaintenanceWindow[], check: string, ancestors: readonly string[]): boolean {
  return windows.some(({ components }) => components === 'all' || [check, ...ancestors].some((name) => components.includes(name)))
}
