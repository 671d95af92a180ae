import { expect, it } from 'vitest'
import { useTestDatabase } from '../../support/database.ts'
import { checkRandomSchemas } from './random-schema-property.ts'

const test = useTestDatabase()

it('leaves no residue and no collateral change in any schema, and exports what it erases', async () => {
  expect((await checkRandomSchemas(test.db, 8)).erased).toBeGreaterThan(0)
}, 120_000)
