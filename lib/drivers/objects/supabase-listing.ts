import { type Caller, failure, problemOf } from './supabase-api.ts'

const pageSize = 1_000

export interface Listing {
  call: Caller
  bucket: string
  /** The store's prefix and the caller's. */
  prefix: string
}

export interface Entry {
  name: string
  bytes: number
  modifiedAt: Date
}

interface ListedObject {
  name: string
  key?: string
  id: string | null
  updated_at: string | null
  created_at: string | null
  metadata: { size?: number } | null
}

/** What is stored under names that begin with the prefix, in the order of whole names. */
export async function* listNames(listing: Listing): AsyncGenerator<Entry, void, undefined> {
  if (await hasFlatListing(listing)) yield* flatListing(listing)
  else yield* folderListing(listing, listing.prefix.slice(0, listing.prefix.lastIndexOf('/') + 1))
}

/** True where Storage lists whole names, page by page. Older ones take this path for an upload to a bucket of that name. */
async function hasFlatListing(listing: Listing): Promise<boolean> {
  const answer = await listing.call('POST', `/object/list-v2/${listing.bucket}`, { json: { prefix: listing.prefix, limit: 1 } })
  await answer.body?.cancel()
  return answer.ok
}

async function* flatListing({ call, bucket, prefix }: Listing): AsyncGenerator<Entry, void, undefined> {
  let cursor: string | undefined
  do {
    const json = {
      prefix,
      limit: pageSize,
      with_delimiter: false,
      sortBy: { column: 'name', order: 'asc' },
      ...(cursor === undefined ? {} : { cursor }),
    }
    const answer = await call('POST', `/object/list-v2/${bucket}`, { json })
    const problem = await problemOf(answer)
    if (problem !== null) throw failure('listing objects', problem)
    const page = (await answer.json()) as { objects: ListedObject[]; hasNext: boolean; nextCursor?: string }
    // Both fields hold the whole name; where one is only its last part, the other ends with it.
    for (const object of page.objects) yield entryOf(object, object.key?.endsWith(object.name) === true ? object.key : object.name)
    cursor = page.hasNext ? page.nextCursor : undefined
  } while (cursor !== undefined)
}

/** Folder by folder, in the order of whole names. A page shifts when names before it come or go while it is read. */
async function* folderListing(listing: Listing, folder: string): AsyncGenerator<Entry, void, undefined> {
  const { call, bucket, prefix } = listing
  const found: { path: string; object: ListedObject | null }[] = []
  for (let offset = 0; ; offset += pageSize) {
    const answer = await call('POST', `/object/list/${bucket}`, {
      json: { prefix: folder, limit: pageSize, offset, sortBy: { column: 'name', order: 'asc' } },
    })
    const problem = await problemOf(answer)
    if (problem !== null) throw failure('listing objects', problem)
    const page = (await answer.json()) as ListedObject[]
    for (const entry of page)
      found.push(entry.id === null ? { path: `${folder}${entry.name}/`, object: null } : { path: `${folder}${entry.name}`, object: entry })
    if (page.length < pageSize) break
  }
  for (const { path, object } of found.sort((a, b) => (a.path < b.path ? -1 : 1))) {
    if (object !== null) {
      if (path.startsWith(prefix)) yield entryOf(object, path)
    } else if (path.startsWith(prefix) || prefix.startsWith(path)) yield* folderListing(listing, path)
  }
}

function entryOf(object: ListedObject, name: string): Entry {
  return { name, bytes: Number(object.metadata?.size ?? 0), modifiedAt: new Date(object.updated_at ?? object.created_at ?? 0) }
}
