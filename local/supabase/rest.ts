import { identifier, type Queryable } from '../../lib/platform/db.ts'
import { sqlState } from '../../lib/platform/errors.ts'
import { asBearer, type Call, type Ground, json, Refusal } from './reply.ts'

interface Relation {
  name: string
  columns: Set<string>
}

/** /rest/v1: the root, and reads of tables and views of `public` with filters, order and a range. Nothing is written. */
export async function answerRest(ground: Ground, call: Call): Promise<Response> {
  const { method, path } = call
  if (method !== 'GET' && method !== 'HEAD') throw problem(405, 'PGRST117', 'The local stack answers reads only.')
  const [name, ...more] = path
  if (name === undefined) return root(await relations(ground.db))
  const relation = (await relations(ground.db, name))[0]
  if (relation === undefined || more.length > 0)
    throw problem(404, 'PGRST205', `Could not find the table 'public.${name}' in the schema cache`)
  return read(ground, call, relation)
}

async function relations(db: Queryable, name?: string): Promise<Relation[]> {
  const rows = await db.query<{ name: string; columns: string[] }>(
    `select c.relname as name, array_agg(a.attname::text order by a.attnum) as columns
     from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
     where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm') and ($1::text is null or c.relname = $1)
     group by c.relname order by c.relname`,
    [name ?? null],
  )
  return rows.map((row) => ({ name: row.name, columns: new Set(row.columns) }))
}

function root(all: readonly Relation[]): Response {
  const paths = Object.fromEntries(
    all.map(({ name }) => [`/${name}`, { get: { tags: [name], responses: { 200: { description: 'OK' } } } }]),
  )
  return json({ swagger: '2.0', info: { title: 'local stack', version: '1' }, basePath: '/', paths }, 200, {
    'content-type': 'application/openapi+json; charset=utf-8',
  })
}

const operators: Record<string, string> = { eq: '=', neq: '<>', gt: '>', gte: '>=', lt: '<', lte: '<=', like: 'like', ilike: 'ilike' }
const reserved = new Set(['select', 'order', 'limit', 'offset', 'apikey'])

async function read(ground: Ground, call: Call, relation: Relation): Promise<Response> {
  const params: unknown[] = []
  const column = (name: string): string => {
    if (!relation.columns.has(name)) throw problem(400, '42703', `column ${relation.name}.${name} does not exist`)
    return identifier(name)
  }
  const selected = (call.query.get('select') ?? '*').split(',').map((part) => part.trim())
  const columns = selected.map((part) => (part === '*' ? '*' : column(part))).join(', ')
  const where = [...call.query].filter(([name]) => !reserved.has(name)).map(([name, value]) => condition(column(name), value, params))
  const order = call.query.get('order')
  const orderBy =
    order === null
      ? ''
      : ` order by ${order
          .split(',')
          .map((part) => direction(part, column))
          .join(', ')}`
  const from = `from public.${identifier(relation.name)}${where.length > 0 ? ` where ${where.join(' and ')}` : ''}`
  const limit = Math.min(1000, whole(call.query.get('limit'), 1000))
  const offset = whole(call.query.get('offset'), 0)
  const counted = /count=(exact|planned|estimated)/.test(call.request.headers.get('prefer') ?? '')
  try {
    return await asBearer(
      ground,
      call.claims,
      async (tx) => {
        const total = counted ? ((await tx.query<{ n: number }>(`select count(*)::int as n ${from}`, params))[0]?.n ?? 0) : null
        // PostgreSQL makes the JSON: numbers, times and arrays come out as PostgREST's do.
        const [found] = await tx.query<{ body: string; n: number }>(
          `select coalesce(json_agg(row_to_json(page)), '[]')::text as body, count(*)::int as n from (select ${columns} ${from}${orderBy} limit ${limit} offset ${offset}) page`,
          params,
        )
        const n = found?.n ?? 0
        const range = `${n === 0 ? '*' : `${offset}-${offset + n - 1}`}/${total ?? '*'}`
        const headers = { 'content-type': 'application/json; charset=utf-8', 'content-range': range }
        if (call.request.headers.get('accept')?.startsWith('application/vnd.pgrst.object') === true)
          return single(found?.body ?? '[]', n, headers)
        return new Response(call.method === 'HEAD' ? null : (found?.body ?? '[]'), {
          status: total !== null && n < total ? 206 : 200,
          headers,
        })
      },
      true,
    )
  } catch (error) {
    const state = sqlState(error)
    if (state === undefined || !(error instanceof Error)) throw error
    throw problem(state === '42501' ? (call.claims.role === 'anon' ? 401 : 403) : 400, state, error.message)
  }
}

function single(body: string, n: number, headers: Record<string, string>): Response {
  if (n !== 1) throw problem(406, 'PGRST116', `Cannot coerce the result to a single JSON object: the result contains ${n} rows`)
  return new Response(JSON.stringify((JSON.parse(body) as unknown[])[0]), {
    status: 200,
    headers: { ...headers, 'content-type': 'application/vnd.pgrst.object+json; charset=utf-8' },
  })
}

function condition(column: string, filter: string, params: unknown[]): string {
  const negated = filter.startsWith('not.')
  const [operator, ...rest] = (negated ? filter.slice(4) : filter).split('.')
  const value = rest.join('.')
  const not = negated ? 'not ' : ''
  if (operator === 'is') {
    if (!['null', 'true', 'false', 'unknown'].includes(value)) throw problem(400, 'PGRST100', `failed to parse filter (is.${value})`)
    return `${not}(${column} is ${value})`
  }
  if (operator === 'in') {
    params.push((value.replace(/^\(|\)$/g, '').match(/"(?:[^"\\]|\\.)*"|[^,]+/g) ?? []).map((item) => item.replace(/^"|"$/g, '')))
    return `${not}(${column}::text = any($${params.length}::text[]))`
  }
  const sql = operators[operator ?? '']
  if (sql === undefined) throw problem(400, 'PGRST100', `failed to parse filter (${operator})`)
  params.push(sql.includes('like') ? value.replaceAll('*', '%') : value)
  return `${not}(${column} ${sql} $${params.length})`
}

function direction(part: string, column: (name: string) => string): string {
  const [name = '', ...words] = part.split('.')
  if (words.some((word) => !['asc', 'desc', 'nullsfirst', 'nullslast'].includes(word)))
    throw problem(400, 'PGRST100', `failed to parse order (${part})`)
  return [column(name), ...words.map((word) => word.replace('nulls', 'nulls '))].join(' ')
}

function whole(value: string | null, fallback: number): number {
  return value !== null && /^\d{1,9}$/.test(value) ? Number(value) : fallback
}

function problem(status: number, code: string, message: string): Refusal {
  return new Refusal(status, { code, message, details: null, hint: null })
}
