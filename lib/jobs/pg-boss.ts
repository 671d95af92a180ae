// The one place that names pg-boss's types, so that importing them never loads it.
export type { Db as IDatabase, JobWithMetadata, PgBoss } from 'pg-boss'
