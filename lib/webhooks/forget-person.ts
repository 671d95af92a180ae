import type { Context } from '../platform/context.ts'
import { environmentCipher } from '../platform/field-cipher.ts'

const page = 500

/**
 * Empties the stored payloads that name a person by any of `identifiers` (in lower case). That the event came, and what became
 * of it, stays; one that was not applied yet is not any more, because it would bring the person back.
 * @returns how many, and how many cannot be read with the present key
 */
export async function forgetPersonInEvents(
  ctx: Pick<Context, 'db' | 'env'>,
  identifiers: readonly string[],
): Promise<{ forgotten: number; unreadable: number }> {
  if (identifiers.length === 0) return { forgotten: 0, unreadable: 0 }
  const [any] = await ctx.db.query<{ there: boolean }>('select exists (select from caretaker.inbox where length(payload) > 0) as there')
  if (any?.there !== true) return { forgotten: 0, unreadable: 0 }
  const cipher = environmentCipher(ctx.env, 'Searching the stored webhook events')
  let forgotten = 0
  let unreadable = 0
  for (let after = '0'; ; ) {
    const rows = await ctx.db.query<{ id: string; source: string; eventId: string; payload: Buffer }>(
      `select id::text, source, event_id as "eventId", payload from caretaker.inbox where id > $1::bigint and length(payload) > 0 order by id limit ${page}`,
      [after],
    )
    const naming = rows
      .filter(({ source, eventId, payload }) => {
        let text: string
        try {
          text = decoded(cipher.open(payload, ['inbox', source, eventId]).toString()).toLowerCase()
        } catch {
          unreadable++
          return false
        }
        return identifiers.some((one) => text.includes(one))
      })
      .map(({ id }) => id)
    if (naming.length > 0)
      forgotten += await ctx.db.execute(
        `update caretaker.inbox set payload = '', state = case when state = 'received' then 'ignored' else state end where id = any($1::bigint[])`,
        [naming],
      )
    after = rows.at(-1)?.id ?? after
    if (rows.length < page) return { forgotten, unreadable }
  }
}

/** JSON may write any character as an escape, and a form any as a percent code: both are undone before the text is searched. */
function decoded(text: string): string {
  const plain = text
    .replace(/\\u([0-9a-f]{4})/gi, (_all, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))
    .replaceAll('\\/', '/')
  return `${plain} ${plain.replace(/%([0-9a-f]{2})/gi, (_all, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))}`
}
