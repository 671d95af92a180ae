import type { Context } from '../../platform/context.ts'
import type { Transaction } from '../../platform/db.ts'
import { stormComponent } from '../storm.ts'
import type { AlertChange } from '../types.ts'
import type { Incident } from './incident.ts'
import { remindEveryMs } from './notify.ts'
import { isQuiet } from './transitions.ts'

/** Which incidents the alerts of one look belong to. */
export interface MergePlan {
  /** The component of the incident that the alert belongs to, or that explains it. */
  causeOf(change: AlertChange): string
  /** Open incidents whose cause is known now and is another's: what each is to become a part of, by component. */
  into: ReadonlyMap<string, readonly Incident[]>
  /** The alerts that open incidents have, without those that are over now. */
  held: readonly { incident: string; alert: string }[]
}

/**
 * Finds the incidents that were opened by consequences before their cause showed: all that still fires of them is explained, or belongs
 * to a storm. They stay what they are where that would lose or repeat something: where a person opened it, where another alert of it
 * is its own cause, where the cause is told to nobody, and where it has come back within a reminder period already: it would go and
 * come with its cause, a page each time.
 */
export async function planMerges(
  tx: Transaction,
  ctx: Context,
  known: readonly Incident[],
  changes: readonly AlertChange[],
  now: Date,
): Promise<MergePlan> {
  const moving = new Map(
    changes
      .filter(({ change, storm }) => change === 'explained' || (change === 'firing' && storm === true))
      .map((one) => [one.alertId, one]),
  )
  if (moving.size === 0) return { causeOf: ({ component }) => component, into: new Map(), held: [] }
  const firing = changes.filter(({ change }) => change === 'firing')
  const over = new Set(changes.flatMap(({ change, alertId }) => (change === 'resolved' ? [alertId] : [])))
  const open = known.filter(({ state }) => state !== 'resolved')
  const held = (
    await tx.query<{ incident: string; alert: string; component: string }>(
      `select incident::text, alert, component from caretaker.incident_alerts where incident = any($1::uuid[]) and cleared_at is null`,
      [open.map(({ id }) => id)],
    )
  ).filter(({ alert }) => !over.has(alert))
  const cameBack = new Set(
    (
      await tx.query<{ incident: string }>(
        `select distinct incident::text from caretaker.incident_events where incident = any($1::uuid[]) and kind = 'reopened' and at > $2::timestamptz`,
        [open.map(({ id }) => id), new Date(now.getTime() - remindEveryMs(ctx.config))],
      )
    ).map(({ incident }) => incident),
  )
  const mayMove = open.filter(({ id, component, openedBy }) => {
    const mine = held.filter(({ incident }) => incident === id)
    const isStorm = component === stormComponent
    const moves = mine.every(({ alert }) => moving.get(alert)?.change === 'explained' || (!isStorm && moving.has(alert)))
    const grows = firing.some((one) => (isStorm ? one.storm === true : one.component === component && !moving.has(one.alertId)))
    return mine.length > 0 && moves && !grows && openedBy.type === 'alert' && !cameBack.has(id)
  })
  const kept = new Set(held.flatMap(({ incident, alert }) => (mayMove.some(({ id }) => id === incident) ? [] : [alert])))
  const inStorm = new Set(
    held.flatMap(({ incident, alert }) =>
      open.some(({ id, component }) => id === incident && component === stormComponent) ? [alert] : [],
    ),
  )
  const causeOf = (change: AlertChange): string => {
    if (change.change === 'explained') {
      const root = firing.find(({ component }) => component === change.root)
      if (root !== undefined) return causeOf(root)
      const of = held.find(({ component }) => component === change.root)
      return open.find(({ id }) => id === of?.incident)?.component ?? change.root ?? change.component
    }
    const together = change.storm === true && (!kept.has(change.alertId) || inStorm.has(change.alertId))
    return together ? stormComponent : change.component
  }
  const isToldOf = (component: string) => {
    const existing = open.find((one) => one.component === component)
    if (existing !== undefined && !isQuiet(existing)) return true
    return firing.some((one) => causeOf(one) === component && one.notify?.length !== 0)
  }
  const into = new Map<string, Incident[]>()
  for (const incident of mayMove.sort((a, b) => a.number - b.number)) {
    const alert = held.find((one) => one.incident === incident.id)
    const change = alert === undefined ? undefined : moving.get(alert.alert)
    if (change === undefined) continue
    const cause = causeOf(change)
    if (cause === incident.component || !(isToldOf(cause) || isQuiet(incident))) continue
    into.set(cause, [...(into.get(cause) ?? []), incident])
  }
  return { causeOf, into, held }
}
