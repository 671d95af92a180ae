import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { readCoverage, saveCoverage } from '../../lib/backup/coverage.ts'
import { useTestDatabase } from '../support/database.ts'
import { caretaker } from './caretaker.ts'

const source = useTestDatabase()
let cwd: string

beforeAll(async () => {
  cwd = await mkdtemp(join(tmpdir(), 'caretaker-coverage-'))
  const from = fileURLToPath(new URL('../../lib/config/index.ts', import.meta.url))
  await writeFile(
    join(cwd, 'policy.ts'),
    `import { defineConfig } from '${from}'
export default defineConfig({ app: { name: 'Shop' }, backup: { encryption: 'none', store: 'file://${join(cwd, 'store')}' } })`,
  )
})
afterAll(() => rm(cwd, { recursive: true, force: true }))

it('notes what a backup by hand covers, but not one in a store that is named for once', async () => {
  const run = ['backup', 'run', '--database-url', source.url, '--config', 'policy.ts', '--data', join(cwd, 'data')]
  expect(await caretaker([...run, '--store', `file://${join(cwd, 'other')}`], { cwd })).toMatchObject({ code: 0 })
  expect(await readCoverage(source.db, new Date())).toBeNull()
  expect(await caretaker(run, { cwd })).toMatchObject({ code: 0 })
  expect(await readCoverage(source.db, new Date())).toMatchObject({ coveredUntil: expect.any(String), openAgainMs: null })
})

it('says so when there is no backup to count on any more', async () => {
  await saveCoverage(source.db, { coveredUntil: '2026-11-21T03:00:00Z', lostMs: 0, openAgainMs: null, drilledAt: null })
  await saveCoverage(source.db, { coveredUntil: null, lostMs: null, openAgainMs: null, drilledAt: null })
  expect(await readCoverage(source.db, new Date())).toBeNull()
})
