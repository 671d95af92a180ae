import { expect, it } from 'vitest'
import { sendMail } from '../../../lib/drivers/mail/index.ts'
import { readEnv } from '../../../lib/platform/env.ts'
import { recordSuppression, type Suppression } from '../../../lib/platform/suppressions.ts'
import { testContext } from '../../support/context.ts'
import { useTestDatabase } from '../../support/database.ts'

const test = useTestDatabase()

it('mail asks the ledger first: none goes to an address that bounced, and a newsletter that was left stops no answer', async () => {
  const sent: string[] = []
  const ctx = testContext(test.db, {
    env: readEnv({ ENCRYPTION_KEY: 'ab'.repeat(32), SENDGRID_API_KEY: 'SG.a-key-of-the-test', SENDGRID_FROM_EMAIL: 'us@example.com' }),
    fetch: async (_url, init) => {
      sent.push(
        (JSON.parse(String(init?.body)) as { personalizations: { to: { email: string }[] }[] }).personalizations[0]?.to[0]?.email ?? '',
      )
      return new Response(null, { status: 202 })
    },
  })
  const note = (address: string, reason: string, action: Suppression['action'] = 'suppress') =>
    test.db.transaction((tx) =>
      recordSuppression(tx, ctx.env, {
        channel: 'email',
        address,
        action,
        reason,
        at: ctx.clock.now(),
        source: 'test',
        eventId: `${reason} ${action}`,
      }),
    )
  await note('bounced@example.com', 'bounce')
  await note('left@example.com', 'unsubscribe')
  const mail = (to: string) => sendMail(ctx, { to, subject: 'Your request', text: 'Here it is.' })
  await expect(mail('Bounced@example.com')).rejects.toMatchObject({ code: 'suppressed' })
  await mail('left@example.com')
  await mail('fine@example.com')
  await note('bounced@example.com', 'bounce', 'allow')
  await mail('bounced@example.com')
  expect(sent).toEqual(['left@example.com', 'fine@example.com', 'bounced@example.com'])
})
