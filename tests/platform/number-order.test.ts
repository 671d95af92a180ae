import { globSync, readFileSync } from 'node:fs'
import { beforeAll, describe, expect, it } from 'vitest'
import { listNotifications } from '../../lib/alerts/index.ts'
import { takeEvents } from '../../lib/alerts/queries.ts'
import { listInbox, showInbox } from '../../lib/webhooks/index.ts'
import { takeUnforwarded } from '../../lib/webhooks/outgoing/queries.ts'
import { testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'

const test = useTestDatabase()

/** Numbers are read as text, and `order by id` means the column that is read: "10" comes before "9" there. */
describe('what has numbers is in the order of its numbers', () => {
  const numbers = Array.from({ length: 12 }, (_, index) => String(index + 1))

  beforeAll(async () => {
    await test.db.execute(
      `insert into caretaker.inbox (source, event_id, type, occurred_at, payload) select 'make', case n when 3 then '4' else 'e' || n end, 't', now(), '\\x01'
       from generate_series(1, 12) n order by n`,
    )
    await test.db.execute(
      `insert into caretaker.outbox (topic, at, payload) select 't', now(), '{}' from generate_series(1, 12) n order by n`,
    )
    await test.db.execute(
      `insert into caretaker.notifications (environment, channel, kind, severity, payload, key, next_attempt_at, created_at)
       select 'development', 'slack', 'update', 'P3', '{}', 'k' || n, now(), now() from generate_series(1, 12) n order by n`,
    )
  })

  it('where the newest come first', async () => {
    const ctx = testContext(test.db)
    expect((await listInbox(ctx)).map(({ id }) => id)).toEqual(numbers.toReversed())
    expect((await listNotifications(ctx, { limit: 4 })).map(({ id }) => id)).toEqual(['12', '11', '10', '9'])
  })

  it('where the oldest are taken first', async () => {
    await test.db.transaction(async (tx) => {
      expect((await takeUnforwarded(tx, 10)).map(({ id }) => id)).toEqual(numbers.slice(0, 10))
      expect((await takeEvents(tx, ['t'], 10)).map(({ id }) => id)).toEqual(numbers.slice(0, 10))
    })
  })

  it("and a number finds the inbox's own before a provider's event that is called so", async () => {
    const ctx = testContext(test.db)
    expect(await showInbox(ctx, '4')).toMatchObject({ id: '4', eventId: 'e4' })
    expect(await showInbox(ctx, 'e5')).toMatchObject({ id: '5' })
  })

  it('in every statement that reads a number as text', () => {
    const wrong = globSync(['lib/**/*.ts', 'cli/**/*.ts', 'local/**/*.ts']).flatMap((file) =>
      readFileSync(file, 'utf8')
        .split(/[`']/)
        .filter((statement) =>
          /\bselect\b[^;]*?\b(id|seq|number)::\w+(?: as \1)?(?=\s*(?:,|\n|from\b))[^;]*\border by (?:\w+, )?\1\b/.test(statement),
        )
        .map((statement) => `${file}: ${statement.slice(0, 80)}`),
    )
    expect(wrong).toEqual([])
  })
})
