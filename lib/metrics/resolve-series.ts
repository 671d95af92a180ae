import type { Queryable, Row } from '../platform/db.ts'
import { CaretakerError } from '../platform/errors.ts'
import { type Labels, type SeriesIdentity, seriesKey } from './batch.ts'
import type { MetricKind } from './figures.ts'

/** How many series one name may have; further ones are told as one, whose labels say `other`. */
export const defaultMostSeries = 200
/** How many names the app may tell: one that has an id in its name would make a new one with every request. */
const mostNames = 500

export interface ResolvedSeries {
  /** Ids by `seriesKey`. */
  ids: Map<string, string>
  /** Names that had to be told as `other`, with how many label sets that were not known before. */
  folded: Map<string, number>
}

interface Known extends Row {
  id: string
  kind: MetricKind
  name: string
  labels: Labels
  everySeconds: number | null
}

interface Census extends Row {
  name: string
  kind: MetricKind
  count: number
}

/**
 * The ids of series, made where they are new. Two instances that make the same one at once get the same id.
 * @throws {CaretakerError} `conflict` where a name is of another kind than before, or where there are too many names
 */
export async function resolveSeries(
  db: Queryable,
  environment: string,
  wanted: readonly SeriesIdentity[],
  { now, mostSeries = defaultMostSeries }: { now: Date; mostSeries?: number | undefined },
): Promise<ResolvedSeries> {
  const ids = new Map<string, string>()
  const folded = new Map<string, number>()
  const kinds = new Map<string, MetricKind>()
  const every = new Map<string, number | null>()
  for (const one of await find(db, environment, wanted)) {
    ids.set(seriesKey(one), one.id)
    kinds.set(one.name, one.kind)
    every.set(seriesKey(one), one.everySeconds)
  }
  refuseOtherKinds(wanted, kinds)
  // How long a gauge holds follows from how often it is told now, not from how often it was at first.
  const changed = wanted.filter((one) => every.has(seriesKey(one)) && every.get(seriesKey(one)) !== (one.everySeconds ?? null))
  if (changed.length > 0)
    await keepIntervals(
      db,
      changed.map((one) => ({ id: ids.get(seriesKey(one)), every: one.everySeconds ?? null })),
    )
  const missing = wanted.filter((one) => !ids.has(seriesKey(one)))
  if (missing.length === 0) return { ids, folded }

  const names = [...new Set(missing.map((one) => one.name))]
  const census = await db.query<Census>(
    `select name, min(kind) as kind, count(*)::int as count from caretaker.metric_series
     where environment = $1::text and name = any($2::text[]) group by name`,
    [environment, names],
  )
  const known = new Set(census.map((one) => one.name))
  await refuseTooManyNames(
    db,
    environment,
    new Set(missing.filter((one) => one.source === 'app' && !known.has(one.name)).map((one) => one.name)),
  )
  const room = new Map(census.map((one) => [one.name, mostSeries - one.count]))
  refuseOtherKinds(missing, new Map(census.map(({ name, kind }) => [name, kind])))
  const made = new Map<string, SeriesIdentity>()
  const standIns = new Map<string, string>()
  for (const one of missing) {
    const left = room.get(one.name) ?? mostSeries
    // What Caretaker tells of itself has labels of its own choosing: there is an end to them.
    if (left > 0 || one.source === 'caretaker') {
      room.set(one.name, left - 1)
      made.set(seriesKey(one), one)
      continue
    }
    const other = { ...one, labels: otherLabels(one.labels) }
    folded.set(one.name, (folded.get(one.name) ?? 0) + 1)
    made.set(seriesKey(other), other)
    standIns.set(seriesKey(one), seriesKey(other))
  }
  for (const one of await make(db, environment, [...made.values()], now)) ids.set(seriesKey(one), one.id)
  for (const [key, standIn] of standIns) {
    const id = ids.get(standIn)
    if (id !== undefined) ids.set(key, id)
  }
  return { ids, folded }
}

/** @throws {CaretakerError} `conflict` where one is of another kind than its name was before */
function refuseOtherKinds(wanted: readonly SeriesIdentity[], kinds: ReadonlyMap<string, MetricKind>): void {
  for (const one of wanted) {
    const before = kinds.get(one.name)
    if (before !== undefined && before !== one.kind)
      throw new CaretakerError('conflict', `The metric "${one.name}" is a ${before}; found a ${one.kind}. Use another name.`)
  }
}

/** @throws {CaretakerError} `conflict` where the new names are more than there is room for */
async function refuseTooManyNames(db: Queryable, environment: string, names: ReadonlySet<string>): Promise<void> {
  if (names.size === 0) return
  const [told] = await db.query<{ count: number }>(
    `select count(distinct name)::int as count from caretaker.metric_series where environment = $1::text and source = 'app'`,
    [environment],
  )
  if ((told?.count ?? 0) + names.size <= mostNames) return
  const [first] = names
  throw new CaretakerError(
    'conflict',
    `The metric "${first}" is new, and the app tells ${told?.count ?? 0} names already; ${mostNames} is the most. Say what differs in a label.`,
  )
}

/** `other` in the place of every value; of a status its class stays, so that shares of errors stay right. */
function otherLabels(labels: Labels): Labels {
  return Object.fromEntries(
    Object.entries(labels).map(([name, value]) => [name, /^[1-5](\d\d|xx)$/.test(value) ? `${value[0]}xx` : 'other']),
  )
}

function find(db: Queryable, environment: string, wanted: readonly SeriesIdentity[]): Promise<Known[]> {
  return db.query<Known>(
    `select s.id::text, s.name, s.labels, s.kind, s.every_s as "everySeconds" from jsonb_to_recordset($2::jsonb) as given(name text, labels jsonb)
     join caretaker.metric_series s on s.environment = $1::text and s.name = given.name and s.labels = given.labels`,
    [environment, JSON.stringify(wanted.map(({ name, labels }) => ({ name, labels })))],
  )
}

async function keepIntervals(db: Queryable, changed: readonly { id: string | undefined; every: number | null }[]): Promise<void> {
  await db.execute(
    // In one order, so that two instances cannot each wait for the other's row.
    `update caretaker.metric_series s set every_s = given.every
     from (select g.id, g.every from jsonb_to_recordset($1::jsonb) as g(id bigint, every int)
       join caretaker.metric_series locked on locked.id = g.id order by g.id for update of locked) as given where s.id = given.id`,
    [JSON.stringify(changed)],
  )
}

function make(db: Queryable, environment: string, wanted: readonly SeriesIdentity[], now: Date): Promise<Known[]> {
  return db.query<Known>(
    // Another instance's row is touched rather than left alone: a row that is left alone would not be returned.
    `insert into caretaker.metric_series as s (environment, name, labels, kind, source, unit, help, every_s, made_at)
     select $1::text, given.name, given.labels, given.kind, given.source, given.unit, given.help, given.every, $3::timestamptz
     from jsonb_to_recordset($2::jsonb) as given(name text, labels jsonb, kind text, source text, unit text, help text, every int)
     order by given.name, given.labels
     on conflict (environment, name, labels) do update set kind = s.kind
     returning s.id::text, s.name, s.labels, s.kind, s.every_s as "everySeconds"`,
    [
      environment,
      JSON.stringify(
        wanted.map(({ name, labels, kind, source, unit, help, everySeconds }) => ({
          name,
          labels,
          kind,
          source,
          unit,
          help,
          every: everySeconds,
        })),
      ),
      now,
    ],
  )
}
