import type { Queryable } from '../../platform/db.ts'
import type { LeftOut } from '../catalogue.ts'

/** A bucket as the Storage API makes it again. */
export interface BucketSettings {
  id: string
  public: boolean
  fileSizeLimit: number | null
  allowedMimeTypes: string[] | null
}

/** A row of storage.objects: what Storage knows of one file. Its name is personal data as often as not. */
export interface ListedFile {
  id: string
  bucket: string
  name: string
  version: string | null
  /** Without quotes; null where Storage recorded none. */
  etag: string | null
  size: number | null
  mimetype: string | null
  cacheControl: string | null
  userMetadata: Record<string, unknown> | null
  owner: string | null
  createdAt: string | null
  updatedAt: string | null
}

export interface FileListing {
  buckets: BucketSettings[]
  files: ListedFile[]
  /** What the policy's `backup.buckets` leaves out or names in vain. */
  leftOut: LeftOut[]
}

const pageRows = 5_000

/**
 * The files of `buckets` as the session's snapshot shows them: the same instant as the rows that speak of them. Null
 * where `buckets` is absent or empty, or the database has no Storage.
 */
export async function listStorageFiles(db: Queryable, buckets: readonly string[] | undefined): Promise<FileListing | null> {
  if (buckets === undefined || buckets.length === 0) return null
  if (!(await hasStorage(db)))
    return {
      buckets: [],
      files: [],
      leftOut: [
        {
          what: `files of the buckets ${buckets.join(', ')}`,
          why: 'The policy names them, but this database has no schema "storage" that its role may read.',
        },
      ],
    }
  const found = await db.query<BucketSettings & Record<string, unknown>>(
    `select b.id, coalesce(b.public, false) as public, (to_jsonb(b) ->> 'file_size_limit')::float8 as "fileSizeLimit",
       case when jsonb_typeof(to_jsonb(b) -> 'allowed_mime_types') = 'array'
         then array (select jsonb_array_elements_text(to_jsonb(b) -> 'allowed_mime_types')) end as "allowedMimeTypes"
     from storage.buckets b order by b.id`,
  )
  const named = found.filter((bucket) => buckets.includes(bucket.id))
  const files: ListedFile[] = []
  for (let after: string | null = null; ; ) {
    const page: ListedFile[] = await db.query<ListedFile & Record<string, unknown>>(pageSql, [
      named.map((bucket) => bucket.id),
      after,
      pageRows,
    ])
    files.push(...page)
    if (page.length < pageRows) break
    after = page.at(-1)?.id ?? null
  }
  return { buckets: named, files, leftOut: notHeld(buckets, found) }
}

// The same text in any session: it tells whether a file has changed.
const instant = `'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'`

// Through jsonb, because older Storage servers have no version, owner_id or user_metadata.
const pageSql = `select o.id::text as id, o.bucket_id as bucket, o.name, r.fields ->> 'version' as version,
    nullif(trim(both '"' from coalesce(o.metadata ->> 'eTag', '')), '') as etag, (o.metadata ->> 'size')::float8 as size,
    o.metadata ->> 'mimetype' as mimetype, o.metadata ->> 'cacheControl' as "cacheControl",
    case when jsonb_typeof(r.fields -> 'user_metadata') = 'object' then r.fields -> 'user_metadata' end as "userMetadata",
    coalesce(r.fields ->> 'owner_id', r.fields ->> 'owner') as owner,
    to_char(o.created_at at time zone 'UTC', ${instant}) as "createdAt", to_char(o.updated_at at time zone 'UTC', ${instant}) as "updatedAt"
  from storage.objects o cross join lateral (select to_jsonb(o) as fields) r
  where o.bucket_id = any ($1::text[]) and o.name is not null and ($2::uuid is null or o.id > $2::uuid)
  order by o.id limit $3::int`

async function hasStorage(db: Queryable): Promise<boolean> {
  const [found] = await db.query<{ readable: boolean }>(
    `select coalesce(bool_and(has_table_privilege(c.oid, 'select')), false) and count(*) = 2 as readable
     from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
     where n.nspname = 'storage' and c.relname in ('buckets', 'objects') and c.relkind in ('r', 'p')`,
  )
  return found?.readable === true
}

function notHeld(named: readonly string[], found: readonly BucketSettings[]): LeftOut[] {
  const others = found.filter((bucket) => !named.includes(bucket.id)).map((bucket) => bucket.id)
  const absent = named.filter((name) => !found.some((bucket) => bucket.id === name))
  return [
    ...(others.length === 0
      ? []
      : [{ what: `files of the buckets ${others.join(', ')}`, why: 'backup.buckets of the policy does not name them.' }]),
    ...(absent.length === 0
      ? []
      : [{ what: `files of the buckets ${absent.join(', ')}`, why: 'backup.buckets names them, but there are no such buckets.' }]),
  ]
}
