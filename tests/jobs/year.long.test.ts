import { expect, it } from 'vitest'
import { useTestDatabase } from '../support/database.ts'
import { liveThrough } from './year.ts'

const test = useTestDatabase()

it('every slot of a year ends once, done, failed or skipped by policy, and none silently', {
  timeout: 900_000,
}, async () => {
  // The same year in every run; SEED=$RANDOM lives through another.
  const seed = Number(process.env.SEED ?? 20261121)
  const lived = await liveThrough(test.db, { from: '2026-01-01T00:10:00Z', until: '2027-01-01T00:00:00Z', seed, crashes: 8 }).catch(
    (error: unknown) => {
      throw new Error(`with seed ${seed}`, { cause: error })
    },
  )
  expect(lived.slots).toBeGreaterThan(1_700)
})
