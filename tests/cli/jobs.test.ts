import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { useTestDatabase } from '../support/database.ts'
import { caretaker } from './caretaker.ts'

const test = useTestDatabase()
let cwd: string

beforeAll(async () => {
  cwd = await mkdtemp(join(tmpdir(), 'caretaker-jobs-'))
  const from = fileURLToPath(new URL('../../lib/config/index.ts', import.meta.url))
  await writeFile(
    join(cwd, 'policy.ts'),
    `import { defineConfig } from '${from}'
export default defineConfig({
  app: { name: 'Shop' },
  retention: [{ table: 'old', column: 'at', olderThan: '30 days', action: 'purge' }],
  jobs: { sweep: { schedule: '0 0 1 1 *', steps: [{ retention: 'all' }] } },
})`,
  )
  await test.db.execute(
    `create table old (id int primary key, at timestamptz); insert into old select n, now() - interval '1 year' from generate_series(1, 12) n`,
  )
})
afterAll(() => rm(cwd, { recursive: true, force: true }))

const jobs = (...args: string[]) =>
  caretaker(['jobs', ...args, '--database-url', test.url, '--config', 'policy.ts', '--data', join(cwd, 'data')], { cwd })

describe('caretaker jobs', () => {
  it('run works the slot once; the history tells who asked and what was counted', { timeout: 60_000 }, async () => {
    expect(JSON.parse((await jobs('run', 'sweep', '--json')).stdout)).toMatchObject({
      state: 'done',
      repeated: false,
      result: { rows: 12 },
    })
    expect(JSON.parse((await jobs('run', 'sweep', '--json')).stdout)).toMatchObject({ state: 'done', repeated: true })
    const history = JSON.parse((await jobs('history', 'sweep', '--state', 'done', '--json')).stdout) as Record<string, unknown>[]
    expect(history).toMatchObject([
      { job: 'sweep', kind: 'manual', state: 'done', actor: { type: 'cli' }, rows: 12, batches: 1, bytes: null },
    ])
    expect((await jobs('run', 'sweep')).stdout).toMatch(/was worked before[\s\S]*task +rows +batches +also\n.*\npurge old +12 +1 +–/)
    const shown = (await jobs('history')).stdout
    expect(shown).toMatch(/job +slot \(UTC\) +kind +asked by +state +takings +took +rows +size +batches/)
    expect(shown).toMatch(/sweep +01-01 00:00 +manual +cli +done +1 +\S+ \S+ +12 +– +1 +purge old/)
  })

  it('history says which states there are', { timeout: 60_000 }, async () => {
    const refused = await jobs('history', '--state', 'broken')
    expect(refused).toMatchObject({ code: 2, stderr: expect.stringMatching(/--state: found "broken", expected queued, .*skipped/) })
  })
})
