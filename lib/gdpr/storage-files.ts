import type { SupabaseClient } from '@supabase/supabase-js'
import type { Context } from '../platform/context.ts'
import { CaretakerError, hasCode } from '../platform/errors.ts'
import type { GdprPolicy } from './map/policy-names.ts'
import type { SubjectMap } from './map/subject-map.ts'

export interface StoredFile {
  bucket: string
  path: string
}

/** Storage lists at most this many entries a page, and removes at most this many a call. */
const pageSize = 1000
const removeAtOnce = 500

/** The Supabase client, or undefined where it is not configured. */
export async function supabaseIfConfigured(ctx: Pick<Context, 'supabase'>): Promise<SupabaseClient | undefined> {
  try {
    return await ctx.supabase()
  } catch (error) {
    if (hasCode(error, 'not_configured')) return undefined
    throw error
  }
}

/**
 * The person's files: under the policy's prefixes, and those that Storage knows the person owns.
 * @throws {CaretakerError} `policy_invalid` for a prefix that would match other people; `upstream_failed`
 */
export async function listFiles(
  ctx: Pick<Context, 'db'>,
  supabase: SupabaseClient,
  map: SubjectMap,
  policy: GdprPolicy,
  subjectId: string,
): Promise<StoredFile[]> {
  const found = new Map<string, StoredFile>()
  const add = (file: StoredFile) => found.set(`${file.bucket}\0${file.path}`, file)
  for (const { bucket, prefix } of policy.buckets ?? [])
    for (const path of await listUnder(supabase, bucket, personalPrefix(prefix, subjectId))) add({ bucket, path })
  for (const file of await ownedFiles(ctx, map, subjectId)) add(file)
  return [...found.values()]
}

/** `{id}` must stand alone between separators: a prefix "{id}" of person 1 would match the files of person 10. */
export function personalPrefix(prefix: string, subjectId: string): string {
  if (!/\{id\}[^A-Za-z0-9{]/.test(prefix))
    throw new CaretakerError(
      'policy_invalid',
      `gdpr.buckets: found prefix "${prefix}", expected one with {id} followed by a separator, such as "{id}/" or "avatars/{id}.".`,
    )
  if (subjectId === '' || /[/\\]|^\.+$/.test(subjectId))
    throw new CaretakerError('invalid_input', "The person's id cannot be part of a path in Storage.")
  return prefix.replaceAll('{id}', subjectId)
}

async function ownedFiles(ctx: Pick<Context, 'db'>, map: SubjectMap, subjectId: string): Promise<StoredFile[]> {
  if (map.root !== 'auth.users') return []
  const columns = await ctx.db.query<{ name: string }>(
    `select attname::text as name from pg_attribute where attrelid = to_regclass('storage.objects') and attname in ('owner', 'owner_id') and not attisdropped`,
  )
  if (columns.length === 0) return []
  const mine = columns.map(({ name }) => `${name}::text = $1`).join(' or ')
  return ctx.db.query<StoredFile & Record<string, unknown>>(
    `select bucket_id::text as bucket, name::text as path from storage.objects where ${mine} order by 1, 2`,
    [subjectId],
  )
}

async function listUnder(supabase: SupabaseClient, bucket: string, prefix: string): Promise<string[]> {
  const slash = prefix.lastIndexOf('/')
  const folders = [{ folder: prefix.slice(0, Math.max(0, slash)), start: prefix.slice(slash + 1) }]
  const paths: string[] = []
  for (let next = folders.shift(); next !== undefined; next = folders.shift()) {
    const { folder, start } = next
    for (let offset = 0; ; offset += pageSize) {
      const { data, error } = await supabase.storage
        .from(bucket)
        .list(folder, { limit: pageSize, offset, sortBy: { column: 'name', order: 'asc' } })
      if (error !== null)
        throw new CaretakerError('upstream_failed', `Supabase Storage did not list bucket "${bucket}": ${error.message}`, { cause: error })
      for (const entry of data) {
        if (!entry.name.startsWith(start)) continue
        const path = folder === '' ? entry.name : `${folder}/${entry.name}`
        // A folder has no id.
        if (entry.id === null) folders.push({ folder: path, start: '' })
        else paths.push(path)
      }
      if (data.length < pageSize) break
    }
  }
  return paths
}

/** Removes files through the Storage API (rows deleted by SQL would leave the bytes). Absent files are no error. */
export async function removeFiles(supabase: SupabaseClient, files: readonly StoredFile[]): Promise<void> {
  const byBucket = Map.groupBy(files, ({ bucket }) => bucket)
  for (const [bucket, inBucket] of byBucket)
    for (let at = 0; at < inBucket.length; at += removeAtOnce) {
      const { error } = await supabase.storage.from(bucket).remove(inBucket.slice(at, at + removeAtOnce).map(({ path }) => path))
      if (error !== null)
        throw new CaretakerError('upstream_failed', `Supabase Storage did not delete files of bucket "${bucket}": ${error.message}`, {
          cause: error,
        })
    }
}
