import { expect, it } from 'vitest'
import { defineConfig } from '../../../lib/config/index.ts'
import { registerOf, renderRegister } from '../../../lib/gdpr/index.ts'
import { testContext } from '../../support/context.ts'
import { useTestDatabase } from '../../support/database.ts'

const test = useTestDatabase()

it('the register names controller, activities with their data and time limits, recipients, measures, and what is missing', async () => {
  await test.db.execute(`
    create schema app;
    create table app.people (id int primary key, email text);
    create table app.payments (id int primary key, person int references app.people, card text);
    create table app.visits (id int primary key, person int references app.people, at timestamptz)`)
  const ctx = testContext(test.db, {
    config: defineConfig({
      app: { name: 'App' },
      retention: [{ table: 'app.visits', column: 'at', olderThan: '30 days', action: 'purge' }],
      gdpr: {
        subject: { table: 'app.people' },
        tables: { 'app.payments': { erase: { keep: 'tax law', until: '10 years', anonymise: ['card', 'person'] } } },
        processors: ['stripe'],
        controller: { name: 'App Ltd', contact: 'privacy@app.example' },
        activities: [{ name: 'Billing', purpose: 'To be paid', basis: 'contract (Art. 6(1)(b))', tables: ['app.people', 'app.payments'] }],
      },
    }),
  })
  const register = await registerOf(ctx)
  expect(register).toMatchObject({
    controller: { name: 'App Ltd', dataProtectionOfficer: null },
    activities: [
      {
        data: [
          { table: 'app.people', columns: ['id', 'email'] },
          { table: 'app.payments', columns: ['id', 'person', 'card'] },
        ],
        recipients: ['stripe'],
        limits: ['app.people: until the person is erased', 'app.payments: kept for 10 years after an erasure, by tax law'],
      },
    ],
    unassigned: ['app.visits'],
  })
  const text = renderRegister(register)
  for (const line of [
    'Controller: App Ltd, privacy@app.example',
    '## Billing',
    '- Recipients: stripe',
    '- app.visits: no entry of gdpr.activities names it',
  ])
    expect(text.split('\n')).toContain(line)
})
