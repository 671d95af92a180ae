import { createHash } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { Session } from '../../platform/db.ts'
import { CaretakerError, sqlState } from '../../platform/errors.ts'
import type { Manifest } from '../manifest.ts'
import { runStatement, type ScriptRules, type Skipped } from '../run-script.ts'
import { literal } from '../sequences.ts'
import { shellWord } from '../shell-word.ts'
import type { Statement } from '../sql/split-statements.ts'

/*
 * What of a restore is done, in the target itself: each step is noted in the transaction that does it, so that a restore which
 * was killed at any moment goes on where it was. The schema is there from the first statement to the last.
 */

/** Of a restore of everything. */
export const restoreSchema = 'caretaker_restore'

/**
 * Of one that brings rows back into a database that is in use, and may be backed up meanwhile: backups leave it out. One that has the other
 * schema is half a restore itself.
 */
export const rowsSchema = 'caretaker_restore_rows'

type RestoreSchema = typeof restoreSchema | typeof rowsSchema

export interface RestoreState {
  backupId: string
  /** Of the manifest: two backups are never mixed. */
  manifestSha256: string
  startedAt: Date
  runs: number
  tablesDone: number
  bound: Bound
}

/** What a restore is, besides its backup; the one that goes on must be the same. null: of the whole backup, and nothing after it. */
export type Bound =
  | null
  /** Rows of these tables, as `schema.table`, in order of their names. */
  | { only: string[] }
  /** The state of a moment, by these increments (a hash). */
  | { at: string; increments: string }

/** The command that goes on with a restore. */
export function resuming(backupId: string, bound: Bound): string {
  if (bound === null) return `caretaker backup restore ${backupId} --to URL --resume`
  if ('at' in bound) return `caretaker backup restore --at ${bound.at} --to URL --resume`
  return `caretaker backup restore ${backupId} ${bound.only.map((table) => `--only ${shellWord(table)}`).join(' ')} --to URL --resume`
}

/** The restore that the target holds half of; null where there is none. */
export async function findRestore(session: Session, schema: RestoreSchema = restoreSchema): Promise<RestoreState | null> {
  const [there] = await session.query<{ exists: boolean }>(`select to_regclass($1) is not null as exists`, [`${schema}.restore`])
  if (there?.exists !== true) return null
  const [state] = await session.query<RestoreState & Record<string, unknown>>(
    `select backup_id as "backupId", manifest_sha256 as "manifestSha256", started_at as "startedAt", runs,
       (select count(*)::float8 from ${schema}.done where step like 'rows:%') as "tablesDone", note -> 'bound' as bound from ${schema}.restore`,
  )
  return state === undefined ? null : { ...state, bound: state.bound ?? null }
}

/** Gives up what is left of one of which each table is whole, or not there. */
export async function dropRestore(session: Session): Promise<void> {
  await session.execute(`drop schema if exists ${rowsSchema} cascade`)
}

export function digestOf(manifest: Manifest): string {
  return createHash('sha256').update(JSON.stringify(manifest)).digest('hex')
}

export class Journal {
  readonly #schema: RestoreSchema
  readonly #done: Map<string, unknown>
  readonly skipped: Skipped[]
  /** When the first run began. */
  readonly startedAt: Date
  /** This one among them. */
  readonly runs: number
  /** The first run meant to open tables early: what is not open is closed. */
  readonly early: boolean

  private constructor(
    schema: RestoreSchema,
    done: Map<string, unknown>,
    skipped: Skipped[],
    state: { startedAt: Date; runs: number; early: boolean },
  ) {
    this.#schema = schema
    this.#done = done
    this.skipped = skipped
    this.startedAt = state.startedAt
    this.runs = state.runs
    this.early = state.early
  }

  /** Begins, in one transaction: a restore either is known to the target or has not touched it. */
  static async begin(session: Session, manifest: Manifest, note: Record<string, unknown> & { bound: Bound }): Promise<Journal> {
    const schema = note.bound !== null && 'only' in note.bound ? rowsSchema : restoreSchema
    await session.client.query(`create schema ${schema};
comment on schema ${schema} is ${literal(`A restore by Caretaker is under way here, or was broken off: "${resuming(manifest.id, note.bound)}" goes on with it. Goes away with its end.`)};
create table ${schema}.restore (backup_id text not null, manifest_sha256 text not null, started_at timestamptz not null default clock_timestamp(), runs int not null default 1, note jsonb not null);
create table ${schema}.done (step text primary key, at timestamptz not null default clock_timestamp(), detail jsonb);
create table ${schema}.skipped (number int generated always as identity primary key, statement text not null, reason text not null);
insert into ${schema}.restore (backup_id, manifest_sha256, note) values (${literal(manifest.id)}, ${literal(digestOf(manifest))}, ${literal(JSON.stringify(note))})`)
    return Journal.#read(session, schema)
  }

  /** Goes on with what an earlier run has begun. */
  static async resume(session: Session, schema: RestoreSchema = restoreSchema): Promise<Journal> {
    await session.execute(`update ${schema}.restore set runs = runs + 1`)
    return Journal.#read(session, schema)
  }

  static async #read(session: Session, schema: RestoreSchema): Promise<Journal> {
    const [state] = await session.query<{ startedAt: Date; runs: number; early: boolean }>(
      `select started_at as "startedAt", runs, coalesce((note ->> 'early')::bool, false) as early from ${schema}.restore`,
    )
    if (state === undefined) throw new CaretakerError('internal', 'A restore has lost its own state.')
    const done = await session.query<{ step: string; detail: unknown }>(`select step, detail from ${schema}.done`)
    const skipped = await session.query<Skipped & Record<string, unknown>>(
      `select statement, reason from ${schema}.skipped order by number`,
    )
    return new Journal(schema, new Map(done.map((row) => [row.step, row.detail])), skipped, state)
  }

  /** What the first run noted of the target as it was before. */
  static async noteOf(session: Session): Promise<Record<string, unknown>> {
    const [row] = await session.query<{ note: Record<string, unknown> }>(`select note from ${restoreSchema}.restore`)
    return row?.note ?? {}
  }

  /** `schema.table` of what earlier runs have loaded. */
  static async loadedTables(session: Session): Promise<Set<string>> {
    const rows = await session.query<{ name: string }>(`select substr(step, 6) as name from ${restoreSchema}.done where step like 'rows:%'`)
    return new Set(rows.map((row) => row.name))
  }

  isDone(step: string): boolean {
    return this.#done.has(step)
  }

  /** What was noted with a step that is done. */
  detailOf(step: string): unknown {
    return this.#done.get(step)
  }

  /** The SQL that notes a step, for the transaction that does it. `done` says that it was committed. */
  noting(step: string, detail: unknown = null): { sql: string; done(): void } {
    const json = detail === null ? 'null' : `${literal(JSON.stringify(detail))}::jsonb`
    return {
      sql: `insert into ${this.#schema}.done (step, detail) values (${literal(step)}, ${json}) on conflict (step) do nothing`,
      done: () => this.#done.set(step, detail),
    }
  }

  /** The same for a step that moves on: what was noted before is replaced. */
  moving(step: string, detail: unknown): { sql: string; done(): void } {
    return {
      sql: `insert into ${this.#schema}.done (step, detail) values (${literal(step)}, ${literal(JSON.stringify(detail))}::jsonb) on conflict (step) do update set detail = excluded.detail, at = clock_timestamp()`,
      done: () => this.#done.set(step, detail),
    }
  }

  /** `durably`: it is on disk when this returns, and all before it. */
  async note(session: Session, step: string, detail: unknown = null, durably = false): Promise<void> {
    const { sql, done } = this.noting(step, detail)
    await session.client.query(durably ? `set local synchronous_commit = on; ${sql}` : sql)
    done()
  }

  /** How many steps were noted with that detail. */
  count(detail: string): number {
    return [...this.#done.values()].filter((one) => one === detail).length
  }

  async skip(session: Session, skipped: readonly Skipped[]): Promise<void> {
    for (const one of skipped) {
      await session.execute(`insert into ${this.#schema}.skipped (statement, reason) values ($1, $2)`, [one.statement, one.reason])
      this.skipped.push(one)
    }
  }

  /** Runs a statement of the backup and notes it in one transaction; not again when it is done. Settings are made in every run. */
  async run(session: Session, step: string, statement: Statement, rules: ScriptRules): Promise<void> {
    if (this.isDone(step)) {
      if (isSetting(statement)) await runStatement(session, statement, rules)
      return
    }
    const { sql, done } = this.noting(step)
    const outcome = await patiently(() => runStatement(session, statement, rules, sql))
    if (outcome === 'done') done()
    else {
      if (typeof outcome === 'object') await this.skip(session, [outcome])
      await this.note(session, step, outcome === "the platform's" ? outcome : null)
    }
  }

  /** The end: all is on disk, and nothing of this is left. */
  async finish(session: Session): Promise<void> {
    // Where this role may: so that none of the app's event triggers stands in the way, also those that it does not own.
    await session.client.query(`set session_replication_role = 'replica'`).catch(() => undefined)
    const drop = `drop schema ${this.#schema} cascade`
    const triggers = await eventTriggers(session)
    const [still, again] = [triggers.map((one) => one.still), triggers.map((one) => one.again)]
    await patiently(() => session.client.query(['set local synchronous_commit = on', ...still, drop, ...again].join('; ')))
  }
}

/**
 * What keeps the app's event triggers still, one that forbids to drop anything too, and what makes them as they were: those of which this
 * role may. No event trigger fires for it.
 */
async function eventTriggers(session: Session): Promise<{ still: string; again: string }[]> {
  return session.query<{ still: string; again: string }>(
    `select format('alter event trigger %I disable', evtname) as still,
       format('alter event trigger %I enable %s', evtname, case evtenabled when 'A' then 'always' when 'R' then 'replica' else '' end) as again
     from pg_catalog.pg_event_trigger where evtenabled <> 'D' and pg_has_role(evtowner, 'usage') order by evtname`,
  )
}

const attempts = 100

/** Again and again, where somebody who uses an open table was in the way, or we in theirs. */
export async function patiently<T>(work: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work()
    } catch (error) {
      const state = sqlState(error instanceof CaretakerError ? error.cause : error)
      if ((state !== '40P01' && state !== '55P03') || attempt === attempts) throw error
      await delay(100)
    }
  }
}

function isSetting({ sql }: Statement): boolean {
  return /^(?:set |reset |select pg_catalog\.set_config\()/i.test(sql)
}

/** The step of a statement of one of the scripts. */
export function stepOf(script: string, position: number, statement: Statement): string {
  return `${script}:${position}:${createHash('sha256').update(statement.sql).digest('hex').slice(0, 12)}`
}
