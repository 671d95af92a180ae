import { setTimeout as delay } from 'node:timers/promises'
import type { Database } from '../../../lib/platform/db.ts'
import { sqlState } from '../../../lib/platform/errors.ts'

/** What a row must hold now, by everything its only writer was told. */
interface Known {
  version: number
  old: boolean
  deleted: boolean
  /** The row was seen anonymised when the writer last touched it. */
  anonymised: boolean
  /** An update found no row: a rule had taken it. */
  gone: boolean
}

export type Kind = 'purge' | 'archive' | 'anonymise'

/**
 * Tables under traffic, and a model of them. Every row has one writer that does one thing at a time and remembers each
 * answer, so that at the end each row's fate is known exactly: what the rules may have done to it, and nothing else.
 */
export interface Traffic {
  /** Ends the writers; throws what one of them threw. */
  stop(): Promise<number>
  /** What differs between the database and the model; empty when every row is where and what it must be. */
  differences(): Promise<string[]>
}

/**
 * `archived` has no key and no index on its age (walked by pages), `purged` an index on its age, `masked` a key only;
 * `parted` is partitioned by age, with a partition that is past its date as a whole.
 */
export async function createTrafficTables(db: Database, rows: number): Promise<void> {
  await db.execute('create table archived (id bigint not null, version int not null, at timestamptz not null, text text not null)')
  await db.execute('create index archived_id on archived (id)')
  await db.execute(
    'create table archived_archive (text text not null, archived_at timestamptz not null default clock_timestamp(), id bigint, version int, at timestamptz)',
  )
  await db.execute('create table purged (id bigint primary key, version int not null, at timestamptz not null, text text not null)')
  await db.execute('create index purged_at on purged (at)')
  await db.execute(
    'create table masked (id bigint primary key, version int not null, at timestamptz not null, text text not null, masked boolean)',
  )
  await db.execute(
    'create table parted (id bigint, version int not null, at timestamptz not null, text text not null, primary key (id, at)) partition by range (at)',
  )
  await createPastPartition(db)
  for (const [name, from, to] of [
    ['parted_middle', -40, -10],
    ['parted_young', -10, 100],
  ])
    await db.execute(
      `do $$ begin execute format('create table ${name} partition of parted for values from (%L) to (%L)', current_date + ${from}, current_date + ${to}); end $$`,
    )
  for (const table of ['archived', 'purged', 'masked', 'parted'])
    await db.execute(
      `insert into ${table} (id, version, at, text) select n, 0, now() - (case when n % 3 = 0 then interval '1 day' else interval '60 days' end) - n * interval '1 second', 'text ' || n
       from generate_series(1, ${rows}) n`,
    )
  for (const table of ['archived', 'purged', 'masked', 'parted']) await db.execute(`analyze ${table}`)
}

/** The partition that the rule drops as a whole; made anew where it was dropped. */
export async function createPastPartition(db: Database): Promise<void> {
  await db.execute(
    `do $$ begin
       if to_regclass('parted_past') is null then
         execute format('create table parted_past partition of parted for values from (%L) to (%L)', current_date - 400, current_date - 40);
       end if;
     end $$`,
  )
}

export const trafficRules = [
  { name: 'archived', table: 'archived', column: 'at', olderThan: '30 days', action: { archiveTo: 'archived_archive' } },
  { name: 'purged', table: 'purged', column: 'at', olderThan: '30 days', action: 'purge' as const },
  { name: 'parted', table: 'parted', column: 'at', olderThan: '30 days', action: 'purge' as const },
  { name: 'masked', table: 'masked', column: 'at', olderThan: '30 days', action: { anonymise: { text: '[ANONYMIZED]' } }, mark: 'masked' },
]

const tables: { table: string; kind: Kind }[] = [
  { table: 'archived', kind: 'archive' },
  { table: 'purged', kind: 'purge' },
  { table: 'masked', kind: 'anonymise' },
  { table: 'parted', kind: 'purge' },
]

export function startTraffic(db: Database, options: { rows: number; writers: number; seed: number }): Traffic {
  const models = new Map<string, Map<number, Known>>()
  for (const { table } of tables) {
    const model = new Map<number, Known>()
    for (let id = 1; id <= options.rows; id++)
      model.set(id, { version: 0, old: id % 3 !== 0, deleted: false, anonymised: false, gone: false })
    models.set(table, model)
  }
  let stopped = false
  let operations = 0
  const write = async (writer: number) => {
    const random = mulberry32(options.seed + writer)
    let fresh = options.rows
    // Its own rows that may still be there, by table: no two writers ever write one row.
    const live = new Map(
      tables.map(({ table }) => [
        table,
        Array.from({ length: Math.floor(options.rows / options.writers) }, (_, i) => (i + 1) * options.writers - writer),
      ]),
    )
    while (!stopped) {
      // Other clients of a busy database do other things too, and the rules need a turn.
      await delay(1)
      const { table, kind } = tables[Math.floor(random() * tables.length)] as (typeof tables)[number]
      const model = models.get(table) as Map<number, Known>
      const mine = live.get(table) as number[]
      operations++
      const position = Math.floor(random() * mine.length)
      const id = mine[position]
      const known = id === undefined ? undefined : model.get(id)
      if (random() < 0.3 || id === undefined || known === undefined) {
        const made = ++fresh * 100 + writer
        const old = random() < 0.5
        const age = old ? '45 days' : '2 days'
        const there = await db
          .execute(`insert into ${table} (id, version, at, text) values ($1::bigint, 0, now() - $2::interval, $3)`, [
            made,
            age,
            `text ${made}`,
          ])
          .then(
            () => true,
            (error: unknown) => {
              // Its partition has just been dropped.
              if (table === 'parted' && sqlState(error) === '23514') return false
              throw error
            },
          )
        if (!there) continue
        model.set(made, { version: 0, old, deleted: false, anonymised: false, gone: false })
        mine.push(made)
        continue
      }
      const dice = random()
      const change = dice < 0.2 ? `delete from ${table}` : `update ${table} set version = version + 1${dice < 0.5 ? ', at = now()' : ''}`
      const [row] = await db.query<{ version: number; masked: boolean }>(
        `${change} where id = $1::bigint returning version, ${kind === 'anonymise' ? 'masked is true' : 'false'} as masked`,
        [id],
      )
      if (row === undefined) known.gone = true
      else if (dice < 0.2) known.deleted = true
      else Object.assign(known, { version: row.version, anonymised: row.masked, ...(dice < 0.5 ? { old: false } : {}) })
      if (row === undefined || dice < 0.2) mine.splice(position, 1)
    }
  }
  const writers = Promise.all(Array.from({ length: options.writers }, (_, index) => write(index)))
  return {
    async stop() {
      stopped = true
      await writers
      return operations
    },
    async differences() {
      const found: string[] = []
      for (const { table, kind } of tables) {
        const model = models.get(table) as Map<number, Known>
        found.push(...(await compareTable(db, table, kind, model)).slice(0, 10))
      }
      return found
    },
  }
}

interface Stored extends Record<string, unknown> {
  id: number
  version: number
  text: string
  place: 'table' | 'archive'
  old: boolean
  masked: boolean
}

async function compareTable(db: Database, table: string, kind: Kind, model: Map<number, Known>): Promise<string[]> {
  const stored = await db.query<Stored>(
    `select id::float8 as id, version, text, 'table' as place, at < now() - interval '30 days' as old, ${kind === 'anonymise' ? 'masked is true' : 'false'} as masked from ${table}
     ${kind === 'archive' ? `union all select id::float8, version, text, 'archive', at < now() - interval '30 days', false from archived_archive` : ''}`,
  )
  const places = new Map<number, Stored[]>()
  for (const row of stored) places.set(row.id, [...(places.get(row.id) ?? []), row])
  const wrong: string[] = []
  for (const [id, known] of model) {
    const rows = places.get(id) ?? []
    places.delete(id)
    const say = (what: string) => wrong.push(`${table} ${id}: ${what} (${JSON.stringify({ known, rows })})`)
    const [row] = rows
    if (rows.length > 1) say('is there more than once')
    else if (known.deleted) {
      if (row !== undefined) say('was deleted and is there')
    } else if (row === undefined) {
      // Only an old row may be gone, and only where the rule deletes.
      if (kind !== 'purge' || !known.old) say('is lost')
    } else {
      if (row.version !== known.version) say('has another version than its writer was told')
      if (row.place === 'archive' && !row.old) say('is young and was archived')
      if (known.gone && row.place === 'table') say('was gone and is back')
      if (kind !== 'anonymise' && row.text !== `text ${id}`) say('has another text')
      if (kind === 'anonymise') {
        const expected = row.masked ? '[ANONYMIZED]' : `text ${id}`
        if (row.text !== expected) say('is half anonymised')
        // Young, and not anonymised when it became young: nobody may have touched it.
        if (!known.old && !known.anonymised && row.masked) say('is young and was anonymised')
        if (known.anonymised && !row.masked) say('was anonymised and is not any more')
      }
    }
  }
  for (const id of places.keys()) wrong.push(`${table} ${id}: nobody wrote this row`)
  return wrong
}

/** A small random generator with a seed: a failure can be run again. */
export function mulberry32(seed: number): () => number {
  let a = seed
  return () => {
    a = (a + 0x6d2b79f5) | 0
    let t = Math.imul(a ^ (a >>> 15), 1 | a)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}
