import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import type { Context } from '../platform/context.ts'
import { CaretakerError } from '../platform/errors.ts'
import { namedSecrets } from '../platform/named-secrets.ts'
import type { LogReceipt } from './receive-logs.ts'
import type { WebhookRequest } from './source.ts'
import { instant, isObject, type JsonObject, parseText } from './sources/json.ts'

const shortestSecret = 16
const mostLines = 20_000

export async function countLogs(ctx: Context, request: WebhookRequest): Promise<LogReceipt> {
  const secrets = namedSecrets(ctx.env.WEBHOOK_SECRETS, 'WEBHOOK_SECRETS', 'logs')
  if (secrets.length === 0) throw new CaretakerError('not_configured', 'WEBHOOK_SECRETS has no secret for "logs".')
  if (secrets.some((secret) => secret.length < shortestSecret))
    throw new CaretakerError('not_configured', `A secret for "logs" in WEBHOOK_SECRETS has fewer than ${shortestSecret} characters.`)
  const host = hostOf(request, secrets)
  const lines = readLines(request.body)
  const counts = new Map<string, number>()
  for (const line of lines) {
    const minute = Math.floor((timeOf(line) ?? ctx.clock.now()).getTime() / 60_000)
    const key = `${minute} ${kindOf(line)}`
    counts.set(key, (counts.get(key) ?? 0) + 1)
  }
  const hash = createHash('sha256').update(request.body).digest()
  const duplicate = await ctx.db.transaction(async (tx) => {
    const inserted = await tx.execute(
      'insert into caretaker.log_batches (hash, at) values ($1::bytea, $2::timestamptz) on conflict do nothing',
      [hash, ctx.clock.now()],
    )
    if (inserted === 0) return true
    const rows = [...counts].map(([key, count]) => ({ minute: Number(key.split(' ')[0]), kind: key.split(' ')[1], count }))
    await tx.execute(
      `insert into caretaker.log_counts as c (minute, host, kind, count)
       select to_timestamp(minute * 60), $1::text, kind, count from unnest($2::bigint[], $3::text[], $4::int[]) as row(minute, kind, count)
       order by 1, 3
       on conflict (minute, host, kind) do update set count = c.count + excluded.count`,
      [host, rows.map((row) => row.minute), rows.map((row) => row.kind), rows.map((row) => row.count)],
    )
    return false
  })
  return { lines: lines.length, duplicate }
}

function hostOf(request: WebhookRequest, secrets: readonly string[]): 'vercel' | 'netlify' {
  const signature = request.headers.get('x-vercel-signature')
  if (signature !== null) {
    if (!/^[0-9a-f]{40}$/.test(signature)) throw invalid('the x-vercel-signature header is malformed or was sent twice')
    const given = Buffer.from(signature, 'hex')
    let matched = false
    for (const secret of secrets) matched = timingSafeEqual(createHmac('sha1', secret).update(request.body).digest(), given) || matched
    if (!matched) throw invalid('it does not match the body')
    return 'vercel'
  }
  const token = /^Bearer ([\x21-\x7e]{1,500})$/i.exec(request.headers.get('authorization') ?? '')?.[1]
  if (token === undefined) throw invalid('there is neither an x-vercel-signature header nor a bearer token')
  const digest = (text: string) => createHash('sha256').update(text).digest()
  let matched = false
  for (const secret of secrets) matched = timingSafeEqual(digest(secret), digest(token)) || matched
  if (!matched) throw invalid('the bearer token is another')
  return 'netlify'
}

/** A list, one object, or one object a line. */
function readLines(body: Uint8Array): JsonObject[] {
  const text = parseText(body, 'log lines').trim()
  let parsed: unknown
  try {
    parsed = text.startsWith('[')
      ? JSON.parse(text)
      : text.split('\n').flatMap((line) => (line.trim() === '' ? [] : [JSON.parse(line) as unknown]))
  } catch {
    throw new CaretakerError('bad_request', `The body (${body.byteLength} bytes) is neither a JSON list nor one JSON object a line.`)
  }
  if (!Array.isArray(parsed) || !parsed.every(isObject))
    throw new CaretakerError('bad_request', 'The body holds something else than objects; expected log lines.')
  if (parsed.length > mostLines)
    throw new CaretakerError('bad_request', `The body holds ${parsed.length} lines; accepted are ${mostLines}.`)
  return parsed
}

/**
 * Vercel's `proxy.statusCode` or `statusCode`, Netlify's `status_code`, by class: only refused sign-ins are told apart, which
 * somebody may be guessing at. Otherwise the level of the line.
 */
function kindOf(line: JsonObject): string {
  const status = (isObject(line.proxy) ? line.proxy.statusCode : undefined) ?? line.statusCode ?? line.status_code
  if (status === 401 || status === 403) return `http_${status}`
  if (typeof status === 'number' && status >= 100 && status < 600) return `http_${Math.floor(status / 100)}xx`
  const level = String(line.level ?? 'info').toLowerCase()
  return `log_${/^[a-z]{1,20}$/.test(level) ? level : 'info'}`
}

function timeOf(line: JsonObject): Date | undefined {
  return instant(line.timestamp, 'milliseconds')
}

function invalid(why: string): CaretakerError {
  return new CaretakerError('signature_invalid', `The signature of the log drain is not accepted: ${why}.`)
}
