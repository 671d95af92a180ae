import type { Context } from '../platform/context.ts'
import type { Transaction } from '../platform/db.ts'
import { channelKind } from './channels/kinds.ts'
import { channelNames } from './channels/names.ts'
import { severityAt } from './default-severity.ts'
import { enqueueNotification } from './enqueue-notification.ts'
import { noteEvaluation } from './queries.ts'

/** Nobody looked for so long: what pages people is told that somebody does again; people themselves after the longer time. */
const gapMs = { machines: 150_000, people: 15 * 60_000 }

/** Where nobody looked for a while says so: what was told from outside the database meanwhile is over, too. */
export async function tellGap(tx: Transaction, ctx: Context, environment: string, now: Date): Promise<void> {
  const before = await noteEvaluation(tx, environment, now)
  // Who has the rules evaluated at other times knows of the time between.
  if (before === null || ctx.config.schedules?.alerts !== undefined) return
  const missedMs = now.getTime() - before.getTime()
  if (missedMs < gapMs.machines) return
  const machines = (name: string) => ['pagerduty', 'opsgenie'].includes(channelKind(ctx.config, name) ?? '')
  await enqueueNotification(tx, ctx, {
    incident: null,
    kind: 'watching',
    severity: severityAt(ctx.config, 3),
    channels: channelNames(ctx).filter((name) => missedMs >= gapMs.people || machines(name)),
    key: `watching:${before.toISOString()}`,
    payload: {
      number: 0,
      title: 'Watching again',
      component: 'caretaker',
      since: before.toISOString(),
      until: now.toISOString(),
      affected: [],
    },
  })
}
