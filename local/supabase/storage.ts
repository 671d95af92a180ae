import type { Queryable } from '../../lib/platform/db.ts'
import { sqlState } from '../../lib/platform/errors.ts'
import { answerBuckets, findBucket } from './buckets.ts'
import { deleteFiles, openFile, type StoredObject, storageProblem, storeFile } from './files.ts'
import { asBearer, bodyOf, type Call, type Ground, json } from './reply.ts'

const columns = 'id, bucket_id, name, owner, owner_id, version, metadata, user_metadata, created_at, updated_at, last_accessed_at'
const missing = () => storageProblem(404, 'NoSuchKey', 'not_found', 'Object not found')
/** What Supabase allows in an object's name. */
const validName = /^[\w/!\-.*'() &$@=;:+,?]{1,1024}$/

/** /storage/v1: buckets and objects. A row of storage.objects and a file stand for an object; row level security decides. */
export async function answerStorage(ground: Ground, call: Call): Promise<Response> {
  const [first, ...rest] = call.path
  try {
    if (first === 'status' || first === 'health')
      return json({ healthy: (await ground.db.query('select 1 from storage.buckets limit 1')).length >= 0 })
    if (first === 'bucket') return await answerBuckets(ground, call, rest)
    if (first === 'object') return await answerObjects(ground, call, rest)
  } catch (error) {
    const state = sqlState(error)
    if (state === '42501') throw storageProblem(403, 'AccessDenied', 'Unauthorized', 'new row violates row-level security policy')
    if (state === '23505') throw storageProblem(409, 'KeyAlreadyExists', 'Duplicate', 'The resource already exists')
    throw error
  }
  throw storageProblem(404, 'InvalidRequest', 'not_found', 'The local stack does not answer this path')
}

async function answerObjects(ground: Ground, call: Call, path: readonly string[]): Promise<Response> {
  const [first = '', bucket = '', ...names] = path
  const route = `${call.method === 'HEAD' ? 'GET' : call.method} ${first}`
  const name = names.join('/')
  switch (route) {
    case 'POST list':
      return json(await list(ground, call, bucket))
    case 'POST move':
    case 'POST copy':
      return moveOrCopy(ground, call, first === 'copy')
    case 'POST sign':
      return names.length === 0 ? signMany(ground, call, bucket) : signOne(ground, call, bucket, name)
    case 'GET info':
      return json(described(await lookUp(ground, call, bucket, name)))
    case 'GET public': {
      const found = (await findBucket(ground.db, bucket)).public ? await byName(ground.db, bucket, name) : null
      return download(ground, call, found)
    }
    case 'GET sign': {
      const claims = ground.tokens.verify(call.query.get('token') ?? '')
      if (claims?.object !== `${bucket}/${name}`)
        throw storageProblem(400, 'InvalidJWT', 'InvalidJWT', 'The link has expired or was made for another object')
      return download(ground, call, await byName(ground.db, bucket, name))
    }
    case 'GET authenticated':
      return download(ground, call, await lookUp(ground, call, bucket, name))
    default:
  }
  const own = path.slice(1).join('/')
  switch (call.method) {
    case 'GET':
    case 'HEAD':
      return download(ground, call, await lookUp(ground, call, first, own))
    case 'POST':
    case 'PUT':
      return upload(ground, call, first, own)
    case 'DELETE':
      return own === ''
        ? json(await remove(ground, call, first))
        : json({ message: 'Successfully deleted', removed: (await removeNames(ground, call, first, [own])).length })
    default:
      throw storageProblem(404, 'InvalidRequest', 'not_found', 'The local stack does not answer this path')
  }
}

async function byName(db: Queryable, bucket: string, name: string): Promise<StoredObject | null> {
  const [found] = await db.query<StoredObject>(`select ${columns} from storage.objects where bucket_id = $1 and name = $2`, [bucket, name])
  return found ?? null
}

/** The object as the bearer may see it. */
async function lookUp(ground: Ground, call: Call, bucket: string, name: string): Promise<StoredObject> {
  await findBucket(ground.db, bucket)
  const found = await asBearer(ground, call.claims, (tx) => byName(tx, bucket, name), true)
  if (found === null) throw missing()
  return found
}

async function download(ground: Ground, call: Call, object: StoredObject | null): Promise<Response> {
  const file = object === null ? null : await openFile(ground.filesDirectory, object)
  if (object === null || file === null) throw missing()
  const { metadata } = object
  const headers: Record<string, string> = {
    'content-type': String(metadata?.mimetype ?? 'application/octet-stream'),
    'content-length': String(file.bytes),
    'cache-control': String(metadata?.cacheControl ?? 'no-cache'),
    etag: String(metadata?.eTag ?? '""'),
    'last-modified': (object.updated_at ?? object.created_at ?? ground.clock.now()).toUTCString(),
  }
  const as = call.query.get('download')
  if (as !== null)
    headers['content-disposition'] =
      `attachment; filename*=UTF-8''${encodeURIComponent(as === '' ? (object.name.split('/').at(-1) ?? 'file') : as)}`
  if (call.method === 'HEAD') await file.body.cancel()
  return new Response(call.method === 'HEAD' ? null : file.body, { headers })
}

async function upload(ground: Ground, call: Call, bucketId: string, name: string): Promise<Response> {
  if (!validName.test(name) || name.startsWith('/') || name.endsWith('/'))
    throw storageProblem(400, 'InvalidKey', 'InvalidKey', `Invalid key: ${name}`)
  const bucket = await findBucket(ground.db, bucketId)
  const file = await storeFile(ground, call.request, bucket)
  const before = await byName(ground.db, bucketId, name)
  const owner = call.claims.sub ?? null
  try {
    if (before === null && call.method === 'PUT') throw missing()
    const replaces = call.method === 'PUT' || call.request.headers.get('x-upsert') === 'true'
    if (before !== null && !replaces) throw storageProblem(409, 'KeyAlreadyExists', 'Duplicate', 'The resource already exists')
    const [row] = await asBearer(ground, call.claims, (tx) =>
      before === null
        ? tx.query<{ id: string }>(
            `insert into storage.objects (bucket_id, name, owner, owner_id, metadata, version, user_metadata)
             values ($1, $2, $3::uuid, $3, $4::jsonb, $5, $6::jsonb) returning id`,
            [bucketId, name, owner, JSON.stringify(file.metadata), file.version, file.userMetadata],
          )
        : tx.query<{ id: string }>(
            `update storage.objects set owner = $3::uuid, owner_id = $3, metadata = $4::jsonb, version = $5, user_metadata = $6::jsonb, updated_at = now()
             where bucket_id = $1 and name = $2 returning id`,
            [bucketId, name, owner, JSON.stringify(file.metadata), file.version, file.userMetadata],
          ),
    )
    if (row === undefined) throw storageProblem(403, 'AccessDenied', 'Unauthorized', 'new row violates row-level security policy')
    if (before !== null) await deleteFiles(ground.filesDirectory, [before])
    return json({ Id: row.id, Key: `${bucketId}/${name}` })
  } catch (error) {
    await deleteFiles(ground.filesDirectory, [file])
    throw error
  }
}

async function remove(ground: Ground, call: Call, bucket: string): Promise<unknown[]> {
  const { prefixes } = await bodyOf(call.request)
  if (!Array.isArray(prefixes) || prefixes.length > 1000)
    throw storageProblem(400, 'InvalidRequest', 'Error', 'body/prefixes must be an array of at most 1000 names')
  return (await removeNames(ground, call, bucket, prefixes.map(String))).map(described)
}

async function removeNames(ground: Ground, call: Call, bucket: string, names: readonly string[]): Promise<StoredObject[]> {
  await findBucket(ground.db, bucket)
  const deleted = await asBearer(ground, call.claims, (tx) =>
    tx.query<StoredObject>(`delete from storage.objects where bucket_id = $1 and name = any($2::text[]) returning ${columns}`, [
      bucket,
      names,
    ]),
  )
  await deleteFiles(ground.filesDirectory, deleted)
  return deleted
}

/** One level of a bucket: files, and folders as entries without an id. */
async function list(ground: Ground, call: Call, bucket: string): Promise<unknown[]> {
  await findBucket(ground.db, bucket)
  const { prefix, limit, offset, search, sortBy } = await bodyOf(call.request)
  const folder = String(prefix ?? '').replace(/^\/+|\/+$/g, '')
  const sort = typeof sortBy === 'object' && sortBy !== null ? (sortBy as { column?: unknown; order?: unknown }) : {}
  const by = ['name', 'created_at', 'updated_at', 'last_accessed_at'].includes(String(sort.column)) ? String(sort.column) : 'name'
  return asBearer(
    ground,
    call.claims,
    (tx) =>
      tx.query(
        `with below as (
           select *, substr(name, length($2) + 1) as rest from storage.objects where bucket_id = $1 and starts_with(name, $2)
         ), entries as (
           select split_part(rest, '/', 1) as name, null::uuid as id, null::timestamptz as updated_at, null::timestamptz as created_at,
             null::timestamptz as last_accessed_at, null::jsonb as metadata
           from below where strpos(rest, '/') > 0 group by 1
           union all
           select rest, id, updated_at, created_at, last_accessed_at, metadata from below where strpos(rest, '/') = 0
         )
         select * from entries where starts_with(lower(name), lower($3)) order by ${by} ${sort.order === 'desc' ? 'desc' : 'asc'}, name limit $4::int offset $5::int`,
        [bucket, folder === '' ? '' : `${folder}/`, String(search ?? ''), Number(limit ?? 100), Number(offset ?? 0)],
      ),
    true,
  )
}

async function moveOrCopy(ground: Ground, call: Call, copies: boolean): Promise<Response> {
  const { bucketId, sourceKey, destinationKey, destinationBucket } = await bodyOf(call.request)
  const source = await lookUp(ground, call, String(bucketId), String(sourceKey))
  const target = String(destinationBucket ?? bucketId)
  await findBucket(ground.db, target)
  const name = String(destinationKey)
  if (!validName.test(name)) throw storageProblem(400, 'InvalidKey', 'InvalidKey', `Invalid key: ${name}`)
  if (!copies) {
    const moved = await asBearer(ground, call.claims, (tx) =>
      tx.execute('update storage.objects set bucket_id = $2, name = $3, updated_at = now() where id = $1::uuid', [source.id, target, name]),
    )
    if (moved === 0) throw missing()
    return json({ message: 'Successfully moved', Id: source.id, Key: `${target}/${name}` })
  }
  const original = await openFile(ground.filesDirectory, source)
  if (original === null) throw missing()
  const headers = { 'content-type': String(source.metadata?.mimetype ?? ''), 'cache-control': String(source.metadata?.cacheControl ?? '') }
  const request = new Request(call.request.url, { method: 'POST', headers, body: original.body, duplex: 'half' })
  return upload(ground, { ...call, request, method: 'POST' }, target, name)
}

async function signOne(ground: Ground, call: Call, bucket: string, name: string): Promise<Response> {
  const { expiresIn } = await bodyOf(call.request)
  await lookUp(ground, call, bucket, name)
  return json({ signedURL: link(ground, bucket, name, expiresIn) })
}

async function signMany(ground: Ground, call: Call, bucket: string): Promise<Response> {
  const { expiresIn, paths } = await bodyOf(call.request)
  const links = []
  for (const path of Array.isArray(paths) ? paths.map(String) : []) {
    const found = await asBearer(ground, call.claims, (tx) => byName(tx, bucket, path), true)
    links.push({
      path,
      error: found === null ? 'Either the object does not exist or you do not have access to it' : null,
      signedURL: found === null ? null : link(ground, bucket, path, expiresIn),
    })
  }
  return json(links)
}

function link(ground: Ground, bucket: string, name: string, expiresIn: unknown): string {
  const seconds = Number(expiresIn)
  if (!(seconds > 0)) throw storageProblem(400, 'InvalidRequest', 'Error', 'body/expiresIn must be >= 1')
  const path = [bucket, ...name.split('/')].map(encodeURIComponent).join('/')
  return `/object/sign/${path}?token=${ground.tokens.sign({ object: `${bucket}/${name}` }, seconds)}`
}

function described(object: StoredObject): Record<string, unknown> {
  const { metadata } = object
  return {
    ...object,
    size: metadata?.size,
    content_type: metadata?.mimetype,
    cache_control: metadata?.cacheControl,
    etag: metadata?.eTag,
    last_modified: object.updated_at,
  }
}
