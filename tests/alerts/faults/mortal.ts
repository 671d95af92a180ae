import type { Context } from '../../../lib/platform/context.ts'
import type { Database, Queryable, Transaction } from '../../../lib/platform/db.ts'

export class Killed extends Error {}

export interface Mortal {
  ctx: Context
  /** How many steps were taken. */
  steps(): number
  dead(): boolean
}

/**
 * The context of a process that is killed at its step number `at`. A step is everything that others can see a part of: a statement, a
 * commit, a request on its way out, an answer on its way in. What the dead one began to write is rolled back, as the server
 * does when the connection ends; from then on nothing it tries reaches anybody.
 */
export function mortal(given: Context, at: number): Mortal {
  let taken = 0
  let dead = false
  const step = () => {
    if (!dead) dead = ++taken >= at
    if (dead) throw new Killed('killed')
  }
  const over = <Q extends Queryable>(inner: Q): Queryable => ({
    query: async (sql, params) => {
      step()
      return inner.query(sql, params)
    },
    execute: async (sql, params) => {
      step()
      return inner.execute(sql, params)
    },
  })
  const db: Database = {
    ...over(given.db),
    transaction: async (work, options) => {
      const result = await given.db.transaction(async (tx) => {
        const done = await work({ kind: 'transaction', ...over(tx) } satisfies Transaction)
        // Just before the commit.
        step()
        return done
      }, options)
      // Committed, and nobody knows of it.
      step()
      return result
    },
    session: (work) => given.db.session(work),
    probe: async (sql, params, signal) => {
      step()
      return given.db.probe(sql, params, signal)
    },
    sessionUrl: given.db.sessionUrl,
    close: () => Promise.resolve(),
  }
  const ctx: Context = {
    ...given,
    db,
    fetch: async (input, init) => {
      step()
      const response = await given.fetch(input, init)
      // It was heard, and nobody noted that.
      step()
      return response
    },
  }
  return { ctx, steps: () => taken, dead: () => dead }
}
