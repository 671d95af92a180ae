import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import type { Database } from '../lib/platform/db.ts'
import { CaretakerError } from '../lib/platform/errors.ts'

/** The examples, and how large each is unless told otherwise: about how many rows, and how many people. */
const sizes: Record<string, { rows: number; people: number }> = {
  canai: { rows: 200_000, people: 500 },
  runbooks: { rows: 20_000, people: 200 },
  productivity: { rows: 20_000, people: 200 },
  catchup: { rows: 20_000, people: 200 },
  guide: { rows: 20_000, people: 200 },
}

/** The examples that can be loaded, by name. */
export const examples: readonly string[] = Object.keys(sizes)

/** Every example's first person: the same in every clone. */
export const firstPerson = createHash('md5')
  .update('user:1')
  .digest('hex')
  .replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')

/** The policy of an example. */
export function examplePolicyFile(name: string): string {
  return fileOf(`${name}/caretaker.config.ts`)
}

/** Makes an empty database look like a Supabase project's. */
export async function installSupabase(db: Database): Promise<void> {
  await db.execute(await readFile(fileURLToPath(new URL('./supabase/schema.sql', import.meta.url)), 'utf8'))
}

/**
 * Makes an empty database look like the example's Supabase project: Supabase's own schemas, the app's tables, its data.
 * The same options give the same rows, ids and all, with ages told back from now. PostgreSQL makes them itself: 200,000
 * take about three seconds.
 * @returns how many rows each table of the app, of Auth and of Storage has
 * @throws {CaretakerError} `invalid_input` when there is no such example
 */
export async function installExample(db: Database, name: string, options: { rows?: number } = {}): Promise<Record<string, number>> {
  const size = sizes[name]
  if (size === undefined) throw new CaretakerError('invalid_input', `There is no example "${name}"; expected ${examples.join(' or ')}.`)
  const rows = Math.max(200, Math.trunc(options.rows ?? size.rows))
  await installSupabase(db)
  await db.execute(await readFile(fileOf(`${name}/schema.sql`), 'utf8'))
  const [functions, seed] = await Promise.all(['seed-functions.sql', `${name}/seed.sql`].map((file) => readFile(fileOf(file), 'utf8')))
  await db.transaction(async (tx) => {
    await tx.execute(`create function pg_temp.people() returns int language sql immutable as 'select ${size.people}';
      create function pg_temp.rows(share numeric) returns int language sql immutable as 'select greatest(10, round(${rows} * share))::int'`)
    await tx.execute(functions ?? '')
    await tx.execute(seed ?? '')
  })
  await db.execute('analyze')
  return countRows(db)
}

/** What a file of the example holds, from its row of storage.objects: as many bytes as that says, and no two files equal. */
export function exampleFile({ name, bytes }: { name: string; bytes: number }): Uint8Array<ArrayBuffer> {
  if (!name.endsWith('.wav')) return new Uint8Array(Buffer.alloc(bytes, `${name}\n`))
  // Silence: 8 kHz, one channel, eight bits a sample. The name at its end is a click.
  const wav = Buffer.alloc(bytes, 0x80)
  wav.write('RIFF', 0, 'latin1')
  wav.writeUInt32LE(bytes - 8, 4)
  wav.write('WAVEfmt ', 8, 'latin1')
  wav.writeUInt32LE(16, 16)
  wav.writeUInt16LE(1, 20)
  wav.writeUInt16LE(1, 22)
  wav.writeUInt32LE(8_000, 24)
  wav.writeUInt32LE(8_000, 28)
  wav.writeUInt16LE(1, 32)
  wav.writeUInt16LE(8, 34)
  wav.write('data', 36, 'latin1')
  wav.writeUInt32LE(bytes - 44, 40)
  wav.write(name, bytes - Buffer.byteLength(name))
  return new Uint8Array(wav)
}

function fileOf(path: string): string {
  return fileURLToPath(new URL(`../examples/${path}`, import.meta.url))
}

async function countRows(db: Database): Promise<Record<string, number>> {
  const [counting] = await db.query<{ sql: string }>(
    `select string_agg(format('select %L as name, count(*)::int as n from %I.%I', case n.nspname when 'public' then '' else n.nspname || '.' end || c.relname, n.nspname, c.relname), ' union all ') as sql
     from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where n.nspname in ('public', 'auth', 'storage') and c.relkind in ('r', 'p') and not c.relispartition`,
  )
  const counts = await db.query<{ name: string; n: number }>(counting?.sql ?? '')
  return Object.fromEntries(counts.map(({ name, n }) => [name, n]))
}
