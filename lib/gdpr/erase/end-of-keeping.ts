import { appendAudit } from '../../platform/audit.ts'
import type { Context } from '../../platform/context.ts'
import { identifier, qualified } from '../../platform/db.ts'
import { sqlState } from '../../platform/errors.ts'
import { emitEvent } from '../../platform/outbox.ts'
import { readCatalogue } from '../map/catalogue.ts'

export interface EndedKeeping {
  /** Rows deleted, a table. */
  erased: Record<string, number>
  /** Rows whose time is over and that something still references, a table. */
  held: Record<string, number>
}

const rowsAtATime = 1_000

/**
 * Erases the rows that were kept of erased people and whose time has come. What another row still references stays, and is
 * told as `gdpr.kept_held`; it is tried again with every run.
 */
export async function eraseEndedKeeping(ctx: Context, shouldStop: () => boolean = () => false): Promise<EndedKeeping> {
  const ended: EndedKeeping = { erased: {}, held: {} }
  const due = await ctx.db.query<{ table: string }>(
    `select distinct table_name as "table" from caretaker.gdpr_kept where erased_at is null and until <= $1::timestamptz order by 1`,
    [ctx.clock.now()],
  )
  if (due.length === 0) return ended
  const { tables } = await readCatalogue(ctx.db)
  // A table whose rows are referenced by those of another is emptied when that one is: again, until a round changes nothing.
  let open = due.map(({ table }) => table)
  for (let progress = true; progress && open.length > 0 && !shouldStop(); ) {
    progress = false
    const next: string[] = []
    for (const key of open) {
      const table = tables.get(key)
      for (;;) {
        if (shouldStop()) return ended
        const rows = table === undefined ? await forget(ctx, key) : await erasePage(ctx, key, table, rowsAtATime)
        if (rows === 'held') {
          next.push(key)
          break
        }
        ended.erased[key] = (ended.erased[key] ?? 0) + rows
        if (rows > 0) progress = true
        if (rows < rowsAtATime) break
      }
    }
    open = next
  }
  for (const key of open) {
    const table = tables.get(key)
    if (table === undefined) continue
    // One row that is held must not keep the others: each by itself.
    let held = 0
    const rows = await ctx.db.query<{ id: string }>(
      `select id::text from caretaker.gdpr_kept where table_name = $1 and erased_at is null and until <= $2::timestamptz order by gdpr_kept.id limit $3::int`,
      [key, ctx.clock.now(), rowsAtATime],
    )
    for (const { id } of rows) {
      if (shouldStop()) break
      const gone = await erasePage(ctx, key, table, 1, id)
      if (gone === 'held') held++
      else ended.erased[key] = (ended.erased[key] ?? 0) + gone
    }
    if (held > 0) ended.held[key] = held
  }
  if (Object.keys(ended.held).length > 0) await ctx.db.transaction((tx) => emitEvent(tx, 'gdpr.kept_held', { rows: ended.held }))
  return ended
}

type Known = Awaited<ReturnType<typeof readCatalogue>>['tables'] extends ReadonlyMap<string, infer T> ? T : never

/** Deletes and notes in one transaction. A row that the app has deleted itself is noted as well. */
async function erasePage(ctx: Context, key: string, table: Known, limit: number, only?: string): Promise<number | 'held'> {
  try {
    return await ctx.db.transaction(
      async (tx) => {
        await tx.execute('set local row_security = off')
        const due = await tx.query<{ id: string; columns: string[] | null }>(
          `select id::text, (select array_agg(k) from jsonb_object_keys(row_key) k) as columns from caretaker.gdpr_kept
           where table_name = $1 and erased_at is null and until <= $2::timestamptz and ($4::bigint is null or id = $4::bigint)
           order by gdpr_kept.id limit $3::int for update skip locked`,
          [key, ctx.clock.now(), limit, only ?? null],
        )
        if (due.length === 0) return 0
        const ids = due.map(({ id }) => id)
        const columns = (due[0]?.columns ?? []).filter((name) => table.columns.some((column) => column.name === name))
        const matches = columns.map((name) => {
          const type = table.columns.find((column) => column.name === name)?.type ?? 'text'
          return `t.${identifier(name)} = (k.row_key ->> '${name.replaceAll("'", "''")}')::${type}`
        })
        if (matches.length > 0)
          await tx.execute(
            `delete from ${qualified(table.schema, table.name)} t using caretaker.gdpr_kept k where k.id = any($1::bigint[]) and ${matches.join(' and ')}`,
            [ids],
          )
        await tx.execute('update caretaker.gdpr_kept set erased_at = $2::timestamptz where id = any($1::bigint[])', [ids, ctx.clock.now()])
        await appendAudit(
          tx,
          { actor: { type: 'system', job: 'gdpr' }, clock: ctx.clock },
          { action: 'gdpr.keeping_ended', target: key, detail: { rows: ids.length } },
        )
        return ids.length
      },
      { lockTimeoutMs: 5_000 },
    )
  } catch (error) {
    if (sqlState(error) === '23503' || sqlState(error) === '23001') return 'held'
    throw error
  }
}

/** The table itself is gone, and its rows with it. */
function forget(ctx: Context, key: string): Promise<number> {
  return ctx.db.execute(
    'update caretaker.gdpr_kept set erased_at = $2::timestamptz where table_name = $1 and erased_at is null and until <= $2::timestamptz',
    [key, ctx.clock.now()],
  )
}
