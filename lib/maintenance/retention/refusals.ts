import type { Context } from '../../platform/context.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { countOrEstimate } from '../count.ts'
import { reading } from '../session-settings.ts'
import { type Descent, unindexedChildren } from './children.ts'
import { createIndex, loadReferences } from './foreign-keys.ts'
import { type Limits, smallTake } from './limits.ts'
import type { RetentionTarget } from './target.ts'

/**
 * Why a run of the rule would be refused, with how to say that it is meant. `due` is how many rows of its table would go
 * if nothing bounded the run.
 */
export async function refusalsOf(ctx: Pick<Context, 'db'>, target: RetentionTarget, limits: Limits, due: number): Promise<string[]> {
  const refusals: string[] = []
  if (due > smallTake && limits.maxShare < 1) {
    const total = await countOrEstimate(ctx, target.table.sql, 'true')
    const taken = due / Math.max(due, total.count)
    if (taken > limits.maxShare)
      refusals.push(
        `${due} rows are ${percent(taken)} of ${target.table.label}, more than ${percent(limits.maxShare)}: if that is meant, say so with limits: { maxShare: ${Math.min(1, Math.ceil(taken * 20) / 20)} }`,
      )
  }
  if (due > 0 && target.verb !== 'anonymise') refusals.push(...(await unindexed(ctx, target, limits)))
  return refusals
}

async function unindexed(ctx: Pick<Context, 'db'>, target: RetentionTarget, limits: Limits): Promise<string[]> {
  const refusals: string[] = []
  const say = (table: { label: string }, rows: number, statement: string, why: string) => {
    if (rows > limits.maxUnindexed)
      refusals.push(
        `${table.label} (about ${Math.round(rows)} rows) ${why}; first: ${statement}. Or say that it is small enough with limits: { maxUnindexed: ${Math.ceil(rows)} }`,
      )
  }
  await reading(ctx, async (tx) => {
    for (const table of [target.table, ...target.descents.map((descent: Descent) => descent.table)])
      for (const reference of await loadReferences(tx, table.oid))
        if (!reference.indexed)
          say(
            reference.child,
            reference.childRows,
            createIndex(reference.child, reference.columns),
            `refers to ${table.label} by ${reference.constraint} without an index, so every deleted row would scan it`,
          )
    for (const { table, columns, rows } of await unindexedChildren(tx, target.descents))
      if (!refusals.some((refusal) => refusal.startsWith(`${table.label} `)))
        say(table, rows, createIndex(table, columns), 'is found without an index, so every batch would scan it')
  })
  return refusals
}

/** @throws {CaretakerError} `retention_refused` naming each refusal */
export function throwRefusals(label: string, refusals: readonly string[]): void {
  if (refusals.length === 0) return
  throw new CaretakerError('retention_refused', `${label}: refused, nothing was touched. ${refusals.join('. ')}.`, {
    issues: refusals.map((message) => ({ path: label, message })),
  })
}

/** Whole percents, and never one hundred for less. */
function percent(share: number): string {
  return `${share < 1 ? Math.min(99.9, Math.round(share * 1_000) / 10) : 100} %`
}
