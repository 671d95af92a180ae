import { durationMs } from '../../config/index.ts'
import type { Context } from '../../platform/context.ts'
import { environmentOf } from '../../platform/environment.ts'
import type { Condition } from '../conditions.ts'
import { matchesAll } from '../matchers.ts'
import { silencesBetween } from '../silences.ts'
import type { AlertSources } from '../sources.ts'
import { type AlertState, step, wellState } from '../step.ts'
import { type Standing, type Verdict, withhold } from '../withhold.ts'
import { checkLooks, lookTimes, type Span } from './looks.ts'

export interface Withholding extends Verdict {
  /** Whether a silence holds for it, whatever else holds it back: reminders of what was told of before are put off. */
  silenced: boolean
}

/** What is replayed. */
export type Subject = Pick<Standing, 'rule' | 'component' | 'severity' | 'source' | 'dependsOn'>

export interface PastSurroundings {
  /** What would have held back an alert of the subject that fired at that time, by the same rules as live. */
  verdict(at: Date, labels: Record<string, string>): Withholding
  /** What the history cannot tell, a sentence each. */
  cannotKnow: string[]
}

/** What stood around a rule in a time that is past: the checks it stands on, silences, and maintenance. */
export async function surroundingsOf(
  ctx: Context,
  sources: AlertSources,
  checks: readonly Condition[],
  subject: Subject,
  span: Span,
): Promise<PastSurroundings> {
  const tree = await sources.dependencyTree(ctx.config)
  const names = new Set([...subject.dependsOn.flatMap((name) => [name, ...(tree.get(name) ?? [])]), ...(tree.get(subject.component) ?? [])])
  names.delete(subject.component)
  const parents = checks.filter(({ component }) => names.has(component))
  const changes = parents.length === 0 ? [] : await sources.healthChanges(ctx, span)
  const times = lookTimes(span)
  const troubled = parents.map((parent) => ({
    parent,
    statuses: statusesOf(
      parent,
      changes.filter(({ check }) => check === parent.component),
      times,
    ),
  }))
  const silences = await silencesBetween(ctx.db, environmentOf(ctx), span)
  const windows = await sources.maintenanceBetween(ctx, span)
  const verdict = (at: Date, labels: Record<string, string>): Withholding => {
    const index = Math.round((at.getTime() - span.from.getTime()) / span.stepMs)
    const standing = troubled.map(
      ({ parent: { rule, component, severity }, statuses }): Standing => ({
        ...{ rule, component, severity, labels: {}, source: 'check', dependsOn: [] },
        status: statuses[index] ?? 'ok',
      }),
    )
    const surroundings = {
      tree,
      silences: silences.filter(({ createdAt, endsAt, endedAt }) => createdAt <= at && endsAt > at && (endedAt === null || endedAt > at)),
      maintenance: windows.filter(({ startsAt, endsAt }) => startsAt <= at && endsAt > at),
    }
    const alert = { ...subject, labels, status: 'firing' as const }
    const [found = { withheld: null, root: null, quiet: false }] = withhold([alert, ...standing], surroundings)
    return { ...found, silenced: surroundings.silences.some(({ matchers }) => matchesAll(matchers, alert)) }
  }
  return { verdict, cannotKnow: cannotKnow(ctx, span, parents, changes) }
}

/** How the alert of a check stood at each look. */
function statusesOf(
  condition: Condition,
  changes: Awaited<ReturnType<AlertSources['healthChanges']>>,
  times: readonly number[],
): AlertState['status'][] {
  let state: AlertState = wellState
  return checkLooks(changes, times).map(({ at, sample }) => {
    state = step(state, sample(state.status === 'firing'), at, condition.thresholds).state
    // As live: what is about to fire and cannot be looked at any more holds nothing back.
    return state.status === 'pending' && !state.counted ? 'ok' : state.status
  })
}

function cannotKnow(
  ctx: Context,
  { from, to }: Span,
  parents: readonly Condition[],
  changes: Awaited<ReturnType<AlertSources['healthChanges']>>,
): string[] {
  const kept = ctx.config.history?.keep ?? '90 days'
  const silencesSince = new Date(to.getTime() - durationMs(kept))
  const unwatched = parents.flatMap(({ component }) => {
    const first = changes.find(({ check, status }) => check === component && status !== 'unknown')
    return first === undefined ? [`${component} (not at all)`] : first.at > from ? [`${component} (before ${minute(first.at)})`] : []
  })
  return [
    ...(unwatched.length === 0
      ? []
      : [`How what it depends on stood is not known of ${unwatched.join(', ')}: alerts of that time are told as if it had been well.`]),
    ...(from < silencesSince ? [`Silences that ended before ${minute(silencesSince)} are no longer kept.`] : []),
    'Who acknowledged, who ended an incident by hand, and the incidents that it would have been a part of are not looked at: of other alerts of its component, of a storm, of a cause that showed later. Nor whom the incident of a cause that holds it back would have asked for because of it.',
    'Dependencies, thresholds and recurring maintenance are those of the policy as it is now; events are not replayed.',
  ]
}

function minute(at: Date): string {
  return `${at.toISOString().slice(0, 16).replace('T', ' ')} UTC`
}
