import { afterEach, describe, expect, it } from 'vitest'
import type { Output } from '../../cli/command.ts'
import { commands } from '../../cli/commands/health.ts'
import type { Context } from '../../lib/platform/context.ts'
import { freePort } from '../../local/postgres.ts'
import { useTestDatabase } from '../support/database.ts'
import { healthContext } from './support.ts'

const test = useTestDatabase()
afterEach(() => {
  process.exitCode = undefined
})

async function run(ctx: Context, args: string[] = []) {
  const printed: { value?: unknown; human?: string } = {}
  const out: Output = {
    json: false,
    line: () => undefined,
    progress: () => undefined,
    result: (value, human) => Object.assign(printed, { value, human }),
  }
  await commands[0]?.run({ args, flags: {}, out, context: () => Promise.resolve(ctx) })
  return printed
}

describe('caretaker health check', () => {
  it('prints a line a check, the cause in words and what to do, and exits with 1 for a critical failure', async () => {
    const url = `http://127.0.0.1:${await freePort()}/`
    const ctx = healthContext(test.db, { health: { checks: { database: {}, stripe: {}, page: { kind: 'url', url, critical: true } } } })
    const { human, value } = await run(ctx)
    expect(
      human
        ?.replace(/ +\d+ +/g, ' N ')
        .split('\n')
        .map((line) => line.trim().replace(/ {2,}/g, ' | ')),
    ).toEqual([
      'Test is unhealthy.',
      '',
      expect.stringMatching(/^check/),
      expect.stringMatching(/^─/),
      'database | healthy N yes | –',
      'stripe | not configured N no | –',
      'page | unhealthy N yes | refused the connection',
      '',
      'page: Start it, or correct the host and port it is reached under.',
    ])
    expect(value).toMatchObject({
      status: 'unhealthy',
      checks: [{ name: 'database' }, { name: 'stripe' }, { name: 'page', cause: 'refused' }],
    })
    expect(process.exitCode).toBe(1)
  })

  it('looks at one check alone', async () => {
    const { value } = await run(healthContext(test.db), ['database'])
    expect(value).toMatchObject({ status: 'healthy', services: { database: { status: 'healthy' } } })
    expect(process.exitCode).toBeUndefined()
    await expect(run(healthContext(test.db), ['databse'])).rejects.toMatchObject({ code: 'not_found' })
    await expect(run(healthContext(test.db), ['database', 'rls'])).rejects.toMatchObject({ code: 'bad_request' })
  })
})
