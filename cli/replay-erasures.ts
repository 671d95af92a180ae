import { personElsewhere } from '../lib/catalog.ts'
import type { Context } from '../lib/platform/context.ts'
import { identifier, openDatabase, qualified, type Session } from '../lib/platform/db.ts'

export interface ReplayedErasures {
  /** Erasures the store has a journal of. */
  tombstones: number
  /** People the restored rows held and that were erased again. */
  erased: number
}

/**
 * Erased stays erased: what the backup still held of people who were erased since goes before the database is declared
 * open. Null where the policy says nothing of people.
 */
export async function replayErasures(ctx: Context, targetUrl: string): Promise<ReplayedErasures | null> {
  if (ctx.config.gdpr === undefined) return null
  const { replayTombstones } = await import('../lib/gdpr/index.ts')
  const db = openDatabase({ sessionUrl: targetUrl, ca: ctx.env.DATABASE_CA, maxConnections: 2 })
  try {
    return await replayTombstones({ ...ctx, db }, personElsewhere)
  } finally {
    await db.close()
  }
}

/**
 * Tells why the first tables of a restore must not be opened to the app yet, or null: they may hold people who have been erased since,
 * whose rows go when all of them are there. Asked before the restore, it fails at once where that could not be known.
 * @throws {CaretakerError} `not_configured` when there are erasures and ENCRYPTION_KEY is not the one they were journalled with
 */
export async function erasedObstacle(ctx: Context, targetUrl: string): Promise<() => Promise<string | null>> {
  const { gdpr } = ctx.config
  if (gdpr === undefined) return () => Promise.resolve(null)
  const { erasedPeople } = await import('../lib/gdpr/index.ts')
  const isErased = await erasedPeople(ctx)
  return async () => {
    const db = openDatabase({ sessionUrl: targetUrl, ca: ctx.env.DATABASE_CA, maxConnections: 1 })
    try {
      const found = await db.session((session) => countErased(session, gdpr.subject, isErased))
      if (found === 0) return null
      return `${found === 1 ? '1 person in it has' : `${found} people in it have`} been erased since the backup`
    } finally {
      await db.close()
    }
  }
}

async function countErased(
  session: Session,
  subject: { table: string; id?: string | undefined },
  isErased: (id: string) => boolean,
): Promise<number> {
  const [schema, name] = subject.table.includes('.') ? subject.table.split('.') : ['public', subject.table]
  const table = qualified(schema ?? '', name ?? '')
  // Its primary key, as an erasure finds it, where that is one column.
  const [key] = await session.query<{ column: string }>(
    `select a.attname as column from pg_catalog.pg_index i join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
     where i.indrelid = to_regclass($1) and i.indisprimary and i.indnatts = 1`,
    [table],
  )
  const [there] = await session.query<{ exists: boolean }>('select to_regclass($1) is not null as exists', [table])
  if (there?.exists !== true) return 0
  let found = 0
  await session.execute(
    `begin read only; declare people no scroll cursor for select ${identifier(subject.id ?? key?.column ?? 'id')}::text as id from ${table}`,
  )
  for (;;) {
    const page = await session.query<{ id: string }>('fetch 5000 from people')
    found += page.filter(({ id }) => isErased(id)).length
    if (page.length === 0) break
  }
  await session.execute('commit')
  return found
}

export function describeReplay(replayed: ReplayedErasures | null): string {
  if (replayed === null) return 'No erasures were replayed: the policy has no "gdpr".'
  if (replayed.erased > 0) return `${replayed.erased} people who had been erased after this backup were erased again.`
  return replayed.tombstones === 0 ? 'Nobody has been erased since.' : `Nobody of the ${replayed.tombstones} erased people was in it.`
}
