import type { Database, Row } from './db.ts'

/**
 * The same database, with every statement in a READ ONLY transaction: the server refuses any change. For what promises
 * to change nothing, such as `caretaker plan`, whatever the verbs it calls do.
 */
export function readOnlyDatabase(db: Database): Database {
  return {
    query: <T extends Row>(sql: string, params?: readonly unknown[]) =>
      db.transaction((tx) => tx.query<T>(sql, params), { readOnly: true }),
    execute: (sql, params) => db.transaction((tx) => tx.execute(sql, params), { readOnly: true }),
    transaction: (work, options) => db.transaction(work, { ...options, readOnly: true }),
    session: (work) =>
      db.session(async (session) => {
        await session.execute('set default_transaction_read_only = on')
        return work(session)
      }),
    probe: (sql, params, signal) => db.probe(sql, params, signal),
    sessionUrl: db.sessionUrl,
    close: () => db.close(),
  }
}
