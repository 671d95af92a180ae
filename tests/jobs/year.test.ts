import { expect, it } from 'vitest'
import { useTestDatabase } from '../support/database.ts'
import { liveThrough } from './year.ts'

const test = useTestDatabase()

it('every slot of weeks in which clocks change ends once, done, failed or skipped by policy, and none silently', {
  timeout: 120_000,
}, async () => {
  const seed = Math.floor(Math.random() * 2 ** 32)
  const lived = await liveThrough(test.db, { from: '2026-03-05T00:10:00Z', until: '2026-04-07T00:00:00Z', seed, crashes: 1 }).catch(
    (error: unknown) => {
      throw new Error(`with seed ${seed}`, { cause: error })
    },
  )
  expect(lived.slots).toBeGreaterThan(130)
})
