import type { Queryable } from '../../../platform/db.ts'

/** One thing a section says something about. */
export interface Finding {
  /** A table, an index, a statement, a session. */
  object: string
  /** Sizes in bytes, times in milliseconds or as dates, shares from 0 to 1. */
  figures: Record<string, string | number | boolean | Date | null>
  /** What to do about it, with the statement that does it. */
  advice?: string
}

export interface Section {
  name: string
  title: string
  /** The worst first. */
  findings: Finding[]
  /** What keeps the section from saying all, or anything: an extension that is not there, a grant that is missing. */
  note?: string
}

/** Reads one section. Changes nothing, and runs in a transaction of its own: one that fails does not spoil the others. */
export interface Collector {
  name: string
  title: string
  collect(db: Queryable): Promise<Pick<Section, 'findings' | 'note'>>
}

/** Not the system's tables, nor Caretaker's own: a condition on `n.nspname`. */
export const notOurs = `n.nspname not in ('pg_catalog', 'information_schema', 'caretaker', 'pgboss', 'supabase_migrations') and n.nspname !~ '^pg_(toast|temp)'`

/** The app's own: nobody but Supabase changes what it keeps in `auth` and `storage`. A condition on `n.nspname` and `c.relowner`. */
export const appsOwn = `${notOurs} and pg_get_userbyid(c.relowner) !~ '^supabase_'`

/** How a table or index is written in the policy, of `n.nspname` and `c.relname`. */
export const objectName = `case when n.nspname = 'public' then '' else n.nspname || '.' end || c.relname`

/** Findings a section lists at most. */
export const most = 25
