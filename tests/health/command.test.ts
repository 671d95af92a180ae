import { afterEach, describe, expect, it } from 'vitest'
import type { Output } from '../../cli/command.ts'
import { commands } from '../../cli/commands/health.ts'
import { recordLooks } from '../../lib/health/history/record.ts'
import type { Context } from '../../lib/platform/context.ts'
import { freePort } from '../../local/postgres.ts'
import { useTestDatabase } from '../support/database.ts'
import { healthContext } from './support.ts'

const test = useTestDatabase()
afterEach(() => {
  process.exitCode = undefined
})

async function run(ctx: Context, args: string[] = [], name = 'health check', flags: Record<string, string | string[]> = {}) {
  const printed: { value?: unknown; human?: string } = {}
  const out: Output = {
    json: false,
    line: () => undefined,
    progress: () => undefined,
    result: (value, human) => Object.assign(printed, { value, human }),
  }
  await commands.find((one) => one.name === name)?.run({ args, flags, out, context: () => Promise.resolve(ctx) })
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

describe('caretaker health history', () => {
  const context = () => healthContext(test.db, { health: { checks: { a: { kind: 'dns' }, b_c: { kind: 'dns' } } } })

  it('prints how each check stands and what changed, of one or of all', async () => {
    const ctx = context()
    for (const status of ['up', 'down', 'up'] as const) {
      await recordLooks(ctx, [
        { check: 'a', status, cause: status === 'down' ? 'timeout' : null, durationMs: 1 },
        { check: 'b-c', status: 'up', cause: null, durationMs: 1 },
      ])
      ctx.clock.advance(120_000)
    }
    const { human, value } = await run(ctx, ['a'], 'health history', { since: '1h' })
    expect(value).toMatchObject({
      now: [{ check: 'a' }],
      changes: [{ status: 'up' }, { status: 'down', lastedMs: 120_000 }, { status: 'up', until: null }],
    })
    expect(human).toMatch(/2026-11-21 12:02 +a +down +2 min[^\n]* +did not answer in time[\s\S]*so far/)
    expect(((await run(ctx, [], 'health history')).value as { changes: unknown[] }).changes).toHaveLength(4)
    expect((await run(ctx, ['B-C'], 'health history')).human).not.toContain('down')
  })

  it('says what is no check, and what is no time', async () => {
    await expect(run(context(), ['d'], 'health history')).rejects.toMatchObject({ code: 'not_found' })
    await expect(run(context(), [], 'health history', { since: 'soon' })).rejects.toMatchObject({ code: 'invalid_input' })
    expect((await run(healthContext(test.db), [], 'health history')).human).toContain('Nothing was noted')
  })
})

describe('caretaker health maintenance', () => {
  const context = () => healthContext(test.db, { health: { checks: { a: { kind: 'dns' } } } })

  it('is announced, listed and ended', async () => {
    const ctx = context()
    const flags = { from: '2026-11-21T13:00Z', for: '90m', component: ['a'], text: 'Words.' }
    const { value, human } = await run(ctx, ['New disks'], 'health maintenance add', flags)
    expect(human).toContain('from 2026-11-21 13:00 UTC to 2026-11-21 14:30 UTC for a')
    expect((await run(ctx, [], 'health maintenance list')).human).toMatch(/2026-11-21 13:00 UTC +2026-11-21 14:30 UTC +a +New disks/)
    await run(ctx, [(value as { id: string }).id], 'health maintenance end')
    expect((await run(ctx, [], 'health maintenance list', { days: '7' })).human).toBe('No maintenance in the next 7 days.')
  })

  it.each([
    [[], {}, 'takes a title'],
    [['x'], {}, '--for or --to'],
    [['x'], { for: '1h', to: '2026-11-21T13:00Z' }, '--for or --to'],
    [['x'], { for: 'long' }, '--for: found "long"'],
    [['x'], { to: '2026-11-21T13:00' }, '--to: found "2026-11-21T13:00"'],
    [['x'], { to: '2026-13-21T13:00Z' }, '--to: found'],
    [['x'], { for: '1h', component: ['b'] }, 'components: found "b"'],
  ])('refuses %j with %j', async (args, flags, message) => {
    await expect(run(context(), args, 'health maintenance add', flags as never)).rejects.toMatchObject({
      detail: expect.stringContaining(message),
    })
  })
})
