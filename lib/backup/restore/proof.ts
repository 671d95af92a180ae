import { identifier, qualified, type Session } from '../../platform/db.ts'
import type { ManifestTable } from '../manifest.ts'
import { Digest, type Measured } from '../meter.ts'

/*
 * When are the rows in a table those that were sent? What was sent is known: it is hashed on its way, and equal to what was dumped. What a
 * COPY does with it depends on the table. Where nothing can come in between (see `storesAsSent`), the beginning is read back, for the eye
 * as it were, and the rest follows: it went through the same hands, and nobody has touched it since. Everything else is read back whole.
 */

/** So much of each table is read back in any case. Most tables have less. */
export const beginningBytes = 16 * 1024 * 1024

/** The first rows that were sent. */
export interface Beginning {
  rows: number
  sha256: string
}

/** What is noted of a table whose rows were stored as they were sent. */
export interface StoredAsSent {
  beginning: Beginning
  /** Pages with rows: the first so many. */
  pages: number
}

/** Watches rows go by, until there have been enough of them. */
export class BeginningDigest {
  readonly #digest = new Digest()
  #rows = 0
  #ended = false

  update(piece: Buffer): void {
    for (let at = 0; !this.#ended && at < piece.length; ) {
      // COPY escapes line feeds: each ends a row.
      const end = piece.indexOf(0x0a, at)
      const next = end < 0 ? piece.length : end + 1
      this.#digest.update(piece.subarray(at, next))
      at = next
      if (end < 0) continue
      this.#rows++
      this.#ended = this.#digest.bytes >= beginningBytes
    }
  }

  /** Once, at the end. */
  beginning(): Beginning {
    const { sha256 }: Measured = this.#digest.measured()
    return { rows: this.#rows, sha256 }
  }
}

/** Types of PostgreSQL's own of which the text that it writes says the value, whole, and of which it reads that value from it. */
const exactTypes = [
  'bool',
  'int2',
  'int4',
  'int8',
  'float4',
  'float8',
  'numeric',
  'text',
  'varchar',
  'bpchar',
  'bytea',
  'uuid',
  'date',
  'time',
  'timetz',
  'timestamp',
  'timestamptz',
  'interval',
  'json',
  'jsonb',
  'inet',
  'cidr',
  'macaddr',
  'macaddr8',
  'bit',
  'varbit',
]

/**
 * Whether what COPY stores in the table, from now to the end of the transaction that has it locked, is what it is sent: no trigger sees the
 * rows, nothing translates their characters, no storage of an extension keeps them, and each column has a type whose text is exact (enums,
 * domains and arrays of such, too). Rules do not see a COPY, and columns that are computed are not sent.
 */
export async function storesAsSent(session: Session, table: ManifestTable): Promise<boolean> {
  const [row] = await session.query<{ exact: boolean }>(
    `with recursive used (type) as (
       select a.atttypid from pg_catalog.pg_attribute a where a.attrelid = $1::regclass and a.attname = any ($2::text[]) and not a.attisdropped
       union
       select case t.typtype when 'd' then t.typbasetype else t.typelem end from used join pg_catalog.pg_type t on t.oid = used.type
       where t.typtype = 'd' or t.typinput = 'pg_catalog.array_in'::regproc
     )
     select c.relkind = 'r' and m.amname = 'heap' and current_setting('server_encoding') = 'UTF8' and current_setting('client_encoding') = 'UTF8'
       and not exists (select from pg_catalog.pg_trigger t where t.tgrelid = c.oid and t.tgenabled <> 'D')
       and not exists (
         select from used join pg_catalog.pg_type t on t.oid = used.type
         where t.typtype not in ('d', 'e') and t.typinput <> 'pg_catalog.array_in'::regproc
           and not (t.typtype = 'b' and t.typnamespace = 'pg_catalog'::regnamespace and t.typname = any ($3::text[]))) as exact
     from pg_catalog.pg_class c join pg_catalog.pg_am m on m.oid = c.relam where c.oid = $1::regclass`,
    [qualified(table.schema, table.name), table.columns, exactTypes],
  )
  return row?.exact === true
}

/** Pages with rows of a table that has just been loaded. Behind them are some that the server has made and not used. */
export async function filledPages(session: Session, table: ManifestTable): Promise<number> {
  const name = qualified(table.schema, table.name)
  const [size] = await session.query<{ pages: number }>(
    `select (pg_catalog.pg_relation_size($1::regclass) / current_setting('block_size')::int8)::float8 as pages`,
    [name],
  )
  for (let behind = 64; ; behind *= 8) {
    const from = Math.max(0, (size?.pages ?? 0) - behind)
    const [row] = await session.query<{ filled: number | null }>(
      `select (max(ctid)::text::point)[0] + 1 as filled from only ${name} where ctid >= '(${from},0)'::tid`,
    )
    if (row?.filled != null) return row.filled
    if (from === 0) return 0
  }
}

/**
 * Whether nobody has touched a row since the load. A load marks every page that it fills as one whose rows all can see, and whoever changes
 * one takes the mark off; ANALYZE, which has just run, counts the marks. (Vacuum puts them on again; but changes are counted, too.)
 */
export async function isUntouched(session: Session, table: ManifestTable, { pages }: StoredAsSent): Promise<boolean> {
  const name = qualified(table.schema, table.name)
  const [row] = await session.query<{ untouched: boolean }>(
    `select c.relallvisible = $2::int4 and not exists (select from only ${name} where ctid >= '(${pages},0)'::tid)
       and pg_catalog.pg_stat_get_tuples_updated(c.oid) = 0 and pg_catalog.pg_stat_get_tuples_deleted(c.oid) = 0 as untouched
     from pg_catalog.pg_class c where c.oid = $1::regclass`,
    [name, pages],
  )
  return row?.untouched === true
}

/** Reads the first rows in the order in which they lie, in a transaction of its own: whatever index there is by now. */
export function copyBeginning(table: ManifestTable, { rows }: Beginning): string {
  const list = table.columns.map(identifier).join(', ')
  return `copy (select ${list} from only ${qualified(table.schema, table.name)} limit ${rows}) to stdout`
}

/** Have the planner read a table from its first page on. */
export const inOrder = ['enable_indexscan', 'enable_indexonlyscan', 'enable_bitmapscan', 'max_parallel_workers_per_gather']
  .map((name) => `set local ${name} = ${name.startsWith('enable') ? 'off' : '0'}`)
  .join('; ')
