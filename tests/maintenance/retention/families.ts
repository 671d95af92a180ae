import { setTimeout as delay } from 'node:timers/promises'
import type { Database } from '../../../lib/platform/db.ts'
import { sqlState } from '../../../lib/platform/errors.ts'
import { mulberry32, type Traffic } from './traffic.ts'

/** What a parent and its children must hold now, by everything their only writer was told. */
interface Family {
  old: boolean
  deleted: boolean
  /** A change found no parent, or no child: a rule had taken them. */
  gone: boolean
  version: number
  /** The version of each child, by its id. */
  kids: Map<number, number>
}

export async function createFamilies(db: Database, families: number): Promise<void> {
  for (const statement of [
    'create table parents (id bigint primary key, version int not null, at timestamptz not null)',
    'create table kids (id bigint primary key, parent bigint not null references parents, version int not null)',
    'create index on kids (parent)',
    'create table parents_archive (id bigint primary key, version int not null, at timestamptz not null)',
    'create table kids_archive (id bigint primary key, parent bigint not null references parents_archive, version int not null)',
    `insert into parents select n, 0, now() - case when n % 3 = 0 then interval '1 day' else interval '60 days' end from generate_series(1, ${families}) n`,
    `insert into kids select 2 * n - k, n, 0 from generate_series(1, ${families}) n, generate_series(0, 1) k`,
    'analyze parents',
    'analyze kids',
  ])
    await db.execute(statement)
}

export const familyRules = [
  {
    name: 'families',
    table: 'parents',
    column: 'at',
    olderThan: '30 days',
    action: { archiveTo: 'parents_archive' },
    children: [{ table: 'kids', action: { archiveTo: 'kids_archive' } }],
  },
]

/** Writers that give parents new children, change both, and delete families, while a rule moves the old ones away. */
export function startFamilies(db: Database, options: { families: number; writers: number; seed: number }): Traffic {
  const model = new Map<number, Family>()
  for (let id = 1; id <= options.families; id++)
    model.set(id, {
      old: id % 3 !== 0,
      deleted: false,
      gone: false,
      version: 0,
      kids: new Map([
        [2 * id, 0],
        [2 * id - 1, 0],
      ]),
    })
  let stopped = false
  let operations = 0
  const write = async (writer: number) => {
    const random = mulberry32(options.seed + 1_000 + writer)
    let fresh = 10 * options.families
    const next = () => ++fresh * 100 + writer
    const mine = [...model.keys()].filter((id) => id % options.writers === writer)
    while (!stopped) {
      await delay(1)
      operations++
      const position = Math.floor(random() * mine.length)
      const id = mine[position]
      const family = id === undefined ? undefined : model.get(id)
      const dice = random()
      if (id === undefined || family === undefined || dice < 0.2) {
        const parent = next()
        const kids = [next(), next()]
        const old = random() < 0.6
        await db.transaction(async (tx) => {
          await tx.execute('insert into parents values ($1::bigint, 0, now() - $2::interval)', [parent, old ? '45 days' : '2 days'])
          await tx.execute('insert into kids select unnest($1::bigint[]), $2::bigint, 0', [kids, parent])
        })
        model.set(parent, { old, deleted: false, gone: false, version: 0, kids: new Map(kids.map((kid) => [kid, 0])) })
        mine.push(parent)
        continue
      }
      if (dice < 0.4) await addKid(db, id, family, next())
      else if (dice < 0.6) await changeKid(db, family, random)
      else if (dice < 0.85) {
        const [row] = await db.query<{ version: number }>(
          `update parents set version = version + 1${dice < 0.7 ? ', at = now()' : ''} where id = $1::bigint returning version`,
          [id],
        )
        if (row === undefined) family.gone = true
        else Object.assign(family, { version: row.version, ...(dice < 0.7 ? { old: false } : {}) })
      } else await removeFamily(db, id, family)
      if (family.gone || family.deleted) mine.splice(position, 1)
    }
  }
  const writers = Promise.all(Array.from({ length: options.writers }, (_, index) => write(index)))
  return {
    async stop() {
      stopped = true
      await writers
      return operations
    },
    differences: () => compareFamilies(db, model),
  }
}

async function addKid(db: Database, id: number, family: Family, kid: number): Promise<void> {
  try {
    await db.execute('insert into kids values ($1::bigint, $2::bigint, 0)', [kid, id])
    family.kids.set(kid, 0)
  } catch (error) {
    // The foreign key: its parent has gone.
    if (sqlState(error) !== '23503') throw error
    family.gone = true
  }
}

async function changeKid(db: Database, family: Family, random: () => number): Promise<void> {
  const kids = [...family.kids.keys()]
  const kid = kids[Math.floor(random() * kids.length)]
  const [row] = await db.query<{ version: number }>('update kids set version = version + 1 where id = $1::bigint returning version', [kid])
  if (kid === undefined || row === undefined) family.gone = true
  else family.kids.set(kid, row.version)
}

async function removeFamily(db: Database, id: number, family: Family): Promise<void> {
  const removed = await db.transaction(async (tx) => {
    // Parents before children, as the rule does: whoever locks in another order risks a deadlock.
    const [parent] = await tx.query('select from parents where id = $1::bigint for update', [id])
    if (parent === undefined) return false
    await tx.execute('delete from kids where parent = $1::bigint', [id])
    await tx.execute('delete from parents where id = $1::bigint', [id])
    return true
  })
  if (removed) family.deleted = true
  else family.gone = true
}

async function compareFamilies(db: Database, model: Map<number, Family>): Promise<string[]> {
  const parents = await db.query<{ id: number; version: number; place: string; old: boolean }>(
    `select id::float8 as id, version, 'table' as place, at < now() - interval '30 days' as old from parents where id > 0
     union all select id::float8, version, 'archive', at < now() - interval '30 days' from parents_archive where id > 0`,
  )
  const kids = await db.query<{ id: number; parent: number; version: number; place: string }>(
    `select id::float8 as id, parent::float8 as parent, version, 'table' as place from kids where id > 0
     union all select id::float8, parent::float8, version, 'archive' from kids_archive where id > 0`,
  )
  const stored = new Map<number, { rows: typeof parents; kids: typeof kids }>()
  const at = (id: number) => {
    const known = stored.get(id) ?? { rows: [], kids: [] }
    stored.set(id, known)
    return known
  }
  for (const parent of parents) at(parent.id).rows.push(parent)
  for (const kid of kids) at(kid.parent).kids.push(kid)
  const wrong: string[] = []
  for (const [id, family] of model) {
    const { rows, kids: found } = stored.get(id) ?? { rows: [], kids: [] }
    stored.delete(id)
    const say = (what: string) =>
      wrong.push(`family ${id}: ${what} (${JSON.stringify({ ...family, kids: [...family.kids], rows, found })})`)
    const [row] = rows
    if (rows.length > 1) say('is there more than once')
    else if (family.deleted) {
      if (row !== undefined || found.length > 0) say('was deleted and is there')
    } else if (row === undefined) say('is lost')
    else {
      if (row.version !== family.version) say('has another version than its writer was told')
      if (row.place === 'archive' && !row.old) say('is young and was archived')
      if (family.gone && row.place === 'table') say('was gone and is back')
      if (found.length !== family.kids.size) say('has more or fewer children')
      for (const kid of found) {
        if (kid.place !== row.place) say(`is apart from its child ${kid.id}`)
        if (kid.version !== family.kids.get(kid.id)) say(`has another version of its child ${kid.id}`)
      }
    }
  }
  for (const id of stored.keys()) wrong.push(`family ${id}: nobody wrote it`)
  return wrong.slice(0, 10)
}
