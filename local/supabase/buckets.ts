import type { Queryable, Row } from '../../lib/platform/db.ts'
import { deleteFiles, type StoredObject, storageProblem } from './files.ts'
import { asBearer, bodyOf, type Call, type Ground, json } from './reply.ts'

export interface Bucket extends Row {
  id: string
  name: string
  public: boolean
  file_size_limit: string | null
  allowed_mime_types: string[] | null
}

const columns = 'id, name, owner, public, file_size_limit::float8 as file_size_limit, allowed_mime_types, created_at, updated_at'

/** @throws {Refusal} NoSuchBucket */
export async function findBucket(db: Queryable, id: string): Promise<Bucket> {
  const [bucket] = await db.query<Bucket>(`select ${columns} from storage.buckets where id = $1`, [id])
  if (bucket === undefined) throw noBucket()
  return bucket
}

const noBucket = () => storageProblem(404, 'NoSuchBucket', 'Bucket not found', 'Bucket not found')

export async function answerBuckets(ground: Ground, call: Call, path: readonly string[]): Promise<Response> {
  const [id, action] = path
  const bearer = <T>(work: (tx: Queryable) => Promise<T>) => asBearer(ground, call.claims, work)
  if (id === undefined) {
    if (call.method === 'GET') return json(await bearer((tx) => tx.query(`select ${columns} from storage.buckets order by name`)))
    if (call.method === 'POST') {
      const body = await bodyOf(call.request)
      const name = String(body.id ?? body.name ?? '')
      if (!/^[\w!.*'() &$@=;:+,?-]{1,100}$/.test(name))
        throw storageProblem(400, 'InvalidBucketName', 'Invalid Input', 'Bucket name invalid')
      await bearer((tx) =>
        tx.execute(
          `insert into storage.buckets (id, name, public, file_size_limit, allowed_mime_types, owner_id) values ($1, $1, $2::bool, $3::bigint, $4::text[], $5)`,
          [name, body.public === true, sizeOf(body.file_size_limit), body.allowed_mime_types ?? null, call.claims.sub ?? null],
        ),
      )
      return json({ name })
    }
  } else if (action === 'empty' && call.method === 'POST') {
    await findBucket(ground.db, id)
    const deleted = await bearer((tx) => tx.query<StoredObject>('delete from storage.objects where bucket_id = $1 returning version', [id]))
    await deleteFiles(ground.filesDirectory, deleted)
    return json({ message: 'Successfully emptied' })
  } else if (action === undefined) {
    if (call.method === 'GET') {
      const [bucket] = await bearer((tx) => tx.query(`select ${columns} from storage.buckets where id = $1`, [id]))
      if (bucket === undefined) throw noBucket()
      return json(bucket)
    }
    if (call.method === 'PUT') {
      const body = await bodyOf(call.request)
      const changed = await bearer((tx) =>
        tx.execute(
          `update storage.buckets set public = coalesce($2::bool, public), file_size_limit = coalesce($3::bigint, file_size_limit),
             allowed_mime_types = coalesce($4::text[], allowed_mime_types), updated_at = now() where id = $1`,
          [id, body.public ?? null, sizeOf(body.file_size_limit), body.allowed_mime_types ?? null],
        ),
      )
      if (changed === 0) throw noBucket()
      return json({ message: 'Successfully updated' })
    }
    if (call.method === 'DELETE') {
      await findBucket(ground.db, id)
      if ((await ground.db.query('select 1 from storage.objects where bucket_id = $1 limit 1', [id])).length > 0)
        throw storageProblem(409, 'InvalidRequest', 'InvalidRequest', 'The bucket you tried to delete is not empty')
      if ((await bearer((tx) => tx.execute('delete from storage.buckets where id = $1', [id]))) === 0) throw noBucket()
      return json({ message: 'Successfully deleted' })
    }
  }
  throw storageProblem(404, 'InvalidRequest', 'not_found', 'The local stack does not answer this path')
}

const units: Record<string, number> = { '': 1, KB: 1_000, MB: 1_000_000, GB: 1_000_000_000 }

function sizeOf(limit: unknown): number | null {
  if (limit === undefined || limit === null) return null
  const [, number, unit] = /^(\d+)\s*(KB|MB|GB)?$/i.exec(String(limit)) ?? []
  if (number === undefined)
    throw storageProblem(400, 'InvalidRequest', 'Error', 'body/file_size_limit must be a number of bytes or a size such as "20MB"')
  return Number(number) * (units[(unit ?? '').toUpperCase()] ?? 1)
}
