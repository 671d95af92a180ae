import type { Queryable } from '../platform/db.ts'
import { sqlState } from '../platform/errors.ts'
import { insertEvents, type NewEvent } from './queries.ts'

/** Statements under way at once; what comes meanwhile goes together with the next. */
const atOnce = 4
const mostTogether = 32

interface Waiting {
  event: NewEvent
  done(isNew: boolean): void
  failed(error: unknown): void
}

interface Collector {
  waiting: Waiting[]
  underWay: number
}

const collectors = new WeakMap<Queryable, Collector>()

/**
 * Inserts an event, in one statement with others that this instance was sent at the same time: a burst then costs a
 * fraction of the round trips and commits. An event that comes alone waits for nobody.
 * @returns whether it is new; resolves when it is committed
 */
export function insertTogether(db: Queryable, event: NewEvent): Promise<boolean> {
  const collector = collectors.get(db) ?? { waiting: [], underWay: 0 }
  collectors.set(db, collector)
  return new Promise((done, failed) => {
    collector.waiting.push({ event, done, failed })
    if (collector.underWay < atOnce) void insertWaiting(db, collector)
  })
}

async function insertWaiting(db: Queryable, collector: Collector): Promise<void> {
  collector.underWay++
  for (let batch = collector.waiting.splice(0, mostTogether); batch.length > 0; batch = collector.waiting.splice(0, mostTogether)) {
    try {
      const isNew = await insertEvents(
        db,
        batch.map(({ event }) => event),
      )
      for (const [index, { done }] of batch.entries()) done(isNew[index] === true)
    } catch (error) {
      // What the database has against one event is not the others' fault; a lost connection is everybody's.
      if (batch.length > 1 && sqlState(error) !== undefined) await insertEach(db, batch)
      else for (const { failed } of batch) failed(error)
    }
  }
  collector.underWay--
}

async function insertEach(db: Queryable, batch: readonly Waiting[]): Promise<void> {
  for (const { event, done, failed } of batch) {
    try {
      const [isNew] = await insertEvents(db, [event])
      done(isNew === true)
    } catch (error) {
      failed(error)
    }
  }
}
