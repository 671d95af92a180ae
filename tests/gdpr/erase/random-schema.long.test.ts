import { expect, it } from 'vitest'
import { useTestDatabase } from '../../support/database.ts'
import { checkRandomSchemas } from './random-schema-property.ts'

const test = useTestDatabase()

it('leaves no residue and no collateral change in any schema, and exports what it erases', async () => {
  expect((await checkRandomSchemas(test.db, 500)).erased).toBeGreaterThan(200)
}, 900_000)
