import { createHmac } from 'node:crypto'
import { nearest } from '../../config/index.ts'
import { appendAudit } from '../../platform/audit.ts'
import type { Context } from '../../platform/context.ts'
import { identifier, type Transaction } from '../../platform/db.ts'
import { requireEnv } from '../../platform/env.ts'
import { CaretakerError, sqlState } from '../../platform/errors.ts'
import { emitEvent } from '../../platform/outbox.ts'
import { tableKey } from '../map/policy-names.ts'
import type { MapTable, SubjectMap } from '../map/subject-map.ts'
import { readSubjectMap, requirePolicy } from '../policy.ts'
import { processorsOf } from '../processors/index.ts'
import { requireLivingSubject } from '../requests/identity.ts'
import { after, byWhom, subjectTags } from '../requests/open-request.ts'
import { type GdprRequest, getRequest } from '../requests/request.ts'
import { identityList, keySets, relation, rowsOf, sameRow, subjectSetting } from '../rows/membership.ts'
import { findSubject } from '../subject.ts'
import { withSubjectLock } from '../subject-lock.ts'

export type RectifiedValue = string | number | boolean | null

export interface Correction {
  /** `table.column` or `schema.table.column`, one that the policy lets people correct. */
  column: string
  value: RectifiedValue
  /** Which of the person's rows, by its primary key as text, where the person has several in that table. */
  row?: string
}

export interface RectifyInput {
  /** The person's id or e-mail address. */
  subject: string
  corrections: readonly Correction[]
}

export interface Rectified {
  request: GdprRequest
  changed: { column: string; rows: number }[]
  /** Who must be told, because they hold the data too (Art. 19). */
  recipients: string[]
}

/**
 * Corrects what the person says is wrong (Art. 16), in the columns that `gdpr.tables.*.rectify` names, all of it or nothing.
 * Old and new value stand in the audit trail as keyed hashes: what was there can be proven, and not read.
 * @throws {CaretakerError} `invalid_input` for a column that may not be corrected or a value that does not fit; `conflict` where
 * the person has several rows and none is named; `subject_not_found`
 */
export async function rectifySubject(ctx: Context, input: RectifyInput): Promise<Rectified> {
  const key = requireEnv(ctx.env, 'ENCRYPTION_KEY', 'Rectifying a person')
  await requireLivingSubject(ctx, 'export')
  const map = await readSubjectMap(ctx)
  const subject = await findSubject(ctx.db, map, input.subject)
  if (subject === undefined) throw new CaretakerError('subject_not_found', 'There is no such person in the subject table.')
  const wanted = input.corrections.map((correction) => ({ correction, ...locate(ctx, map, correction.column) }))
  for (const { table, column } of ctx.actor.type === 'subject' ? wanted : [])
    if (namesSomebody(ctx, map, table, column))
      throw new CaretakerError(
        'forbidden',
        `corrections: ${table.key}.${column} says whose data is found, here or at a processor: an operator corrects it, who has seen that it is the person's.`,
      )
  if (wanted.length === 0) throw new CaretakerError('invalid_input', 'corrections: found none, expected at least one.')
  const tag = subjectTags(key, subject)[0] as string
  const recipients = processorsOf(requirePolicy(ctx)).map(({ name }) => name)
  return withSubjectLock(ctx, { table: map.root, id: subject.id }, () =>
    ctx.db.transaction(
      async (tx) => {
        await tx.execute('set local row_security = off')
        await tx.query(`select set_config('${subjectSetting}', $1, true)`, [subject.id])
        const changes: { column: string; rows: number; from: string; to: string }[] = []
        for (const { correction, table, column } of wanted) {
          const { old, current } = await correct(tx, map, table, column, correction)
          changes.push({ column: `${table.key}.${column}`, rows: 1, from: valueHash(key, old), to: valueHash(key, current) })
        }
        const now = ctx.clock.now()
        const [recorded] = await tx.query<{ id: string }>(
          `insert into caretaker.gdpr_requests (kind, state, subject_hash, requested_by, received_at, due_at, finished_at, verified_by, receipt)
           values ('rectify', 'done', $1, $2::jsonb, $3::timestamptz, $4::timestamptz, $3::timestamptz, $5, $6::jsonb) returning id`,
          [
            tag,
            JSON.stringify(byWhom(ctx)),
            now,
            after(now, '1 month'),
            ctx.actor.type === 'subject' ? 'token' : 'operator',
            JSON.stringify({ columns: changes.map(({ column }) => column), recipients }),
          ],
        )
        const id = recorded?.id as string
        await emitEvent(tx, 'gdpr.rectified', { request: id, columns: changes.map(({ column }) => column), recipients })
        await appendAudit(
          tx,
          { actor: byWhom(ctx), clock: ctx.clock },
          {
            action: 'gdpr.rectified',
            target: tag,
            detail: { request: id, changes: changes.map(({ column, from, to }) => ({ column, from, to })) },
          },
        )
        return {
          request: await getRequest({ db: tx }, id),
          changed: changes.map(({ column, rows }) => ({ column, rows })),
          recipients,
        }
      },
      { lockTimeoutMs: 5_000 },
    ),
  )
}

/** The columns people may have corrected. */
export function rectifiable(ctx: Pick<Context, 'config'>): string[] {
  return Object.entries(requirePolicy(ctx).tables ?? {}).flatMap(([table, { rectify = [] }]) =>
    rectify.map((column) => `${table.includes('.') ? table : `public.${table}`}.${column}`),
  )
}

function locate(ctx: Context, map: SubjectMap, written: string): { table: MapTable; column: string } {
  const full = written.split('.').length === 2 ? `public.${written}` : written
  const allowed = rectifiable(ctx)
  const table = [...map.tables.values()].find((one) => full.startsWith(`${tableKey(one.table)}.`))
  if (allowed.includes(full) && table !== undefined) return { table, column: full.slice(tableKey(table.table).length + 1) }
  const near = nearest(full, allowed)
  throw new CaretakerError(
    'invalid_input',
    `corrections: found a column that cannot be corrected this way, expected one that gdpr.tables.*.rectify names${
      near === undefined ? (allowed.length === 0 ? '; it names none' : '') : `; did you mean "${near}"?`
    }`,
    {
      issues: [
        {
          path: 'corrections.column',
          message: allowed.length === 0 ? 'no column can be corrected' : `expected one of ${allowed.join(', ')}`,
        },
      ],
    },
  )
}

/** Whoever could write another person's address or number into such a column would be handed that person's data next. */
function namesSomebody(ctx: Pick<Context, 'config'>, map: SubjectMap, { key, table, edges }: MapTable, column: string): boolean {
  const policy = requirePolicy(ctx)
  const own = [map.idColumn.name, map.emailColumn, policy.subject.phone ?? 'phone', ...(policy.subject.identifiers ?? [])]
  if (key === map.subject && own.includes(column)) return true
  if (table.primaryKey.includes(column) || edges.some(({ columns }) => columns.includes(column))) return true
  return processorsOf(policy).some(({ ids }) => ids.some((place) => key === placeKey(place) && place.endsWith(`.${column}`)))
}

function placeKey(place: string): string {
  const table = place.slice(0, place.lastIndexOf('.'))
  return table.includes('.') ? table : `public.${table}`
}

async function correct(
  tx: Transaction,
  map: SubjectMap,
  table: MapTable,
  column: string,
  { value, row, column: path }: Correction,
): Promise<{ old: string | null; current: string | null }> {
  if ([row, value].some((text) => typeof text === 'string' && text.includes('\0')))
    throw new CaretakerError(
      'invalid_input',
      `corrections: the value or row for ${path} holds a NUL character, which no text column takes.`,
    )
  // A cast to varchar(50) cuts off what does not fit; assigned without the length, the column itself refuses it.
  const type = (table.table.columns.find(({ name }) => name === column)?.type ?? 'text')
    .replace(/^character varying\(\d+\)/, 'character varying')
    .replace(/^character\(\d+\)/, 'bpchar')
  const { prefix, source } = keySets(map, [table.key])
  const [keyColumn] = table.table.primaryKey
  if (row !== undefined && (keyColumn === undefined || table.table.primaryKey.length > 1))
    throw new CaretakerError('invalid_input', `corrections: ${table.key} has no primary key of one column, so "row" cannot name one.`)
  const named = row === undefined ? '' : ` where mine.${identifier(keyColumn as string)}::text = $1`
  const found = await tx.query<Record<string, unknown>>(
    `${prefix}select count(*) over ()::int as "caretaker:count" from (${rowsOf(map, table, identityList(table), source)}) as mine${named} limit 1`,
    row === undefined ? [] : [row],
  )
  const count = (found[0]?.['caretaker:count'] as number | undefined) ?? 0
  if (count === 0) throw new CaretakerError('not_found', `The person has no ${row === undefined ? 'row' : 'such row'} in ${table.key}.`)
  if (count > 1)
    throw new CaretakerError(
      'conflict',
      `The person has ${count} rows in ${table.key}: say which one, by "row" with its ${keyColumn ?? 'key'}.`,
    )
  const n = row === undefined ? 1 : 2
  try {
    const [changed] = await tx.query<{ old: string | null; current: string | null }>(
      `${prefix}update ${relation(table)} as u set ${identifier(column)} = $${n}::text::${type}
       from (select mine.*, o."caretaker:old" from (${rowsOf(map, table, identityList(table), source)}) as mine
             join lateral (select t.${identifier(column)}::text as "caretaker:old" from ${relation(table)} t where ${sameRow(table, 't', 'mine')} for update) o on true${named}) as k
       where ${sameRow(table, 'u', 'k')} returning k."caretaker:old" as old, u.${identifier(column)}::text as current`,
      [...(row === undefined ? [] : [row]), value === null ? null : String(value)],
    )
    if (changed === undefined)
      throw new CaretakerError('conflict', `The row in ${table.key} changed at this moment, or a trigger keeps it as it is; ask again.`, {
        retryAfterSeconds: 1,
      })
    return changed
  } catch (error) {
    const state = sqlState(error)
    if (state !== undefined && /^2[23]/.test(state))
      throw new CaretakerError(
        'invalid_input',
        `corrections: the value for ${path} is not accepted: expected ${type}${state.startsWith('23') ? ' that satisfies the constraints of the table' : ''}. Nothing was changed.`,
      )
    throw error
  }
}

/** The same value has the same hash, and nobody without the key can try values until one fits. */
function valueHash(key: string, value: string | null): string {
  return value === null
    ? 'null'
    : createHmac('sha256', Buffer.from(key, 'hex')).update('caretaker:rectified:v1\0').update(value).digest('hex').slice(0, 32)
}
