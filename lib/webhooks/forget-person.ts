import type { Context } from '../platform/context.ts'
import type { Row } from '../platform/db.ts'
import { environmentCipher, type FieldCipher } from '../platform/field-cipher.ts'
import { identifierPattern } from '../platform/identifier-pattern.ts'

const page = 500

type Forgetting = Pick<Context, 'db' | 'env'>

interface Forgotten {
  forgotten: number
  unreadable: number
}

/**
 * Empties what this domain stores of a person: the payloads of events and of messages to subscribers that name them by any
 * of `identifiers` (in lower case), and their lines in the mirror of Stripe. That an event came, and what became of it, stays;
 * one that was not applied yet is not any more, because it would bring the person back, and a message is not sent any more.
 * The ledger of who must not be written to holds keyed hashes, and stays.
 * @returns how many, and how many cannot be read with the present key
 */
export async function forgetPersonInEvents(ctx: Forgetting, identifiers: readonly string[]): Promise<Forgotten> {
  if (identifiers.length === 0) return { forgotten: 0, unreadable: 0 }
  const parts = [await forgetInInbox(ctx, identifiers), await forgetInMessages(ctx, identifiers)]
  const open = (await forgetInMirror(ctx, identifiers)) + (await forgetInOutbox(ctx, identifiers))
  return {
    forgotten: parts.reduce((sum, { forgotten }) => sum + forgotten, open),
    unreadable: parts.reduce((sum, { unreadable }) => sum + unreadable, 0),
  }
}

function forgetInInbox(ctx: Forgetting, identifiers: readonly string[]): Promise<Forgotten> {
  // By the number and not by its text above, of which `order by id` would be: with 10 before 9 the next page would leave rows out.
  return searchSealed<{ id: string; source: string; eventId: string; payload: Buffer }>(ctx, identifiers, {
    page: (after) =>
      ctx.db.query(
        `select id::text, source, event_id as "eventId", payload from caretaker.inbox
         where id > $1::bigint and octet_length(payload) > 0 order by inbox.id limit ${page}`,
        [after ?? '0'],
      ),
    open: (cipher, { source, eventId, payload }) => cipher.open(payload, ['inbox', source, eventId]),
    forget: (ids) =>
      ctx.db.execute(
        `update caretaker.inbox set payload = '', state = case when state = 'received' then 'ignored' else state end where id = any($1::bigint[])`,
        [ids],
      ),
  })
}

function forgetInMessages(ctx: Forgetting, identifiers: readonly string[]): Promise<Forgotten> {
  return searchSealed<{ id: string; payload: Buffer }>(ctx, identifiers, {
    page: (after) =>
      ctx.db.query(`select id, payload from caretaker.messages where id > $1::text order by id limit ${page}`, [after ?? '']),
    open: (cipher, { id, payload }) => cipher.open(payload, ['messages', id]),
    forget: (ids) => ctx.db.execute('delete from caretaker.messages where id = any($1::text[])', [ids]),
  })
}

/** Of a customer the mirror keeps the ids and amounts, which name nobody without Stripe. */
function forgetInMirror(ctx: Forgetting, identifiers: readonly string[]): Promise<number> {
  return ctx.db.execute(
    `update caretaker.stripe_customers set email = null, name = null, metadata = '{}'
     where (lower(email) = any($1::text[]) or lower(id) = any($1::text[])) and (email is not null or name is not null or metadata <> '{}')`,
    [identifiers],
  )
}

/** What the app's own SQL has emitted and nobody has looked at for subscribers yet: sealed only when it is forwarded. */
function forgetInOutbox(ctx: Forgetting, identifiers: readonly string[]): Promise<number> {
  return ctx.db.execute(
    `update caretaker.outbox set payload = '{}'
     where app and payload <> '{}' and exists (select from unnest($1::text[]) one where strpos(lower(payload::text), one) > 0)`,
    [identifiers],
  )
}

interface Sealed<T> {
  page(after: string | null): Promise<T[]>
  open(cipher: FieldCipher, row: T): Buffer
  forget(ids: readonly string[]): Promise<number>
}

/** What is sealed cannot be searched by the database: every row is opened here. */
async function searchSealed<T extends Row & { id: string }>(
  ctx: Forgetting,
  identifiers: readonly string[],
  { page: next, open, forget }: Sealed<T>,
): Promise<Forgotten> {
  const naming = new RegExp(identifierPattern(identifiers), 'i')
  let forgotten = 0
  let unreadable = 0
  let cipher: FieldCipher | undefined
  for (let after: string | null = null; ; ) {
    const rows: T[] = await next(after)
    if (rows.length === 0) return { forgotten, unreadable }
    cipher ??= environmentCipher(ctx.env, 'Searching the stored webhook events')
    const found: string[] = []
    for (const row of rows) {
      let text: string
      try {
        text = decoded(open(cipher, row).toString())
      } catch {
        unreadable++
        continue
      }
      if (naming.test(text)) found.push(row.id)
    }
    if (found.length > 0) forgotten += await forget(found)
    after = rows.at(-1)?.id ?? after
    if (rows.length < page) return { forgotten, unreadable }
  }
}

/** JSON may write any character as an escape, and a form any as a percent code: both are undone before the text is searched. */
function decoded(text: string): string {
  const plain = text
    .replace(/\\u([0-9a-f]{4})/gi, (_all, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))
    .replaceAll('\\/', '/')
  const unescaped = (form: string) => form.replace(/(%[0-9a-f]{2})+/gi, (codes) => Buffer.from(codes.replaceAll('%', ''), 'hex').toString())
  // In a form a plus sign is a space.
  return [plain, unescaped(plain), unescaped(plain.replaceAll('+', ' '))].join(' ')
}
