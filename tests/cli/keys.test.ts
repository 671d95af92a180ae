import { describe, expect, it } from 'vitest'
import { commands } from '../../cli/commands/keys.ts'
import { type OperatorKey, signInWithKey } from '../../lib/http/index.ts'
import { testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'

const test = useTestDatabase()

async function caretaker(name: string, args: string[] = [], flags: Record<string, string> = {}) {
  const said: { value?: unknown; human?: string } = {}
  const out = {
    json: false,
    line: () => undefined,
    progress: () => undefined,
    result: (value: unknown, human: string) => Object.assign(said, { value, human }),
  }
  const command = commands.find((one) => one.name === name)
  await command?.run({ args, flags, out, context: async () => testContext(test.db, { actor: { type: 'cli' } }) })
  return said
}

describe('keys', () => {
  it('are made, listed without themselves, and taken back with their sessions', async () => {
    const { value } = await caretaker('keys create', [], { role: 'support', name: 'night shift' })
    const { id, key } = value as { id: string; key: string }
    await signInWithKey(testContext(test.db), new Request('http://localhost/'), key)
    const listed = await caretaker('keys list')
    expect(listed.value).toMatchObject([{ id, name: 'night shift', role: 'support', sessions: 1, revokedAt: null }])
    expect(JSON.stringify(listed)).not.toContain(key.slice(3))
    expect((await caretaker('keys revoke', [id])).human).toBe('The key "night shift" is revoked, and its sessions are over.')
    const [after] = (await caretaker('keys list')).value as OperatorKey[]
    expect(after?.revokedAt).toBeInstanceOf(Date)
    await expect(signInWithKey(testContext(test.db), new Request('http://localhost/'), key)).rejects.toMatchObject({ code: 'unauthorized' })
    await expect(caretaker('keys revoke', [id])).rejects.toMatchObject({ code: 'conflict' })
  })

  it.each([
    [[], 'bad_request'],
    [['a', 'b'], 'bad_request'],
    [['nothing'], 'not_found'],
    [['00000000-0000-0000-0000-000000000000'], 'not_found'],
  ])('revoked as %j are refused', async (args, code) => {
    await expect(caretaker('keys revoke', args)).rejects.toMatchObject({ code })
  })
})
