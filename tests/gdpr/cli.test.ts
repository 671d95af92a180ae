import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Invocation } from '../../cli/command.ts'
import { commands } from '../../cli/commands/gdpr.ts'
import { defineConfig } from '../../lib/config/index.ts'
import { openObjectStore } from '../../lib/drivers/objects/index.ts'
import type { Context } from '../../lib/platform/context.ts'
import { testContext } from '../support/context.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { makeShop } from './shop.ts'

describe('caretaker gdpr', () => {
  let test: TestDatabase
  let folder: string
  let ctx: Context
  beforeAll(async () => {
    test = await createTestDatabase({ template: 'template0' })
    await makeShop(test.db)
    folder = await mkdtemp(join(tmpdir(), 'gdpr-cli-'))
    const objects = await openObjectStore(`file://${join(folder, 'objects')}`, testContext(test.db).env)
    ctx = testContext(test.db, {
      config: defineConfig({ app: { name: 'Shop' }, gdpr: { subject: { table: 'users' } } }),
      objects: () => Promise.resolve(objects),
    })
  })
  afterAll(async () => {
    await test.drop()
    await rm(folder, { recursive: true })
  })

  async function caretaker(name: string, args: string[], flags: Invocation['flags'] = {}): Promise<{ value: unknown; human: string }> {
    const command = commands.find((one) => one.name === name)
    if (command === undefined) throw new Error(`no command ${name}`)
    let printed: { value: unknown; human: string } | undefined
    await command.run({
      args,
      flags,
      context: () => Promise.resolve(ctx),
      out: {
        json: true,
        line: () => undefined,
        progress: () => undefined,
        result: (value, human) => {
          printed = { value, human }
        },
      },
    })
    if (printed === undefined) throw new Error('nothing was printed')
    JSON.stringify(printed.value)
    return printed
  }

  it('maps, plans, exports and erases a database that never met Caretaker', async () => {
    expect((await caretaker('gdpr map', [])).human).toContain('crm.items')
    expect((await caretaker('gdpr map', [], { format: 'mermaid' })).human).toMatch(/^flowchart/)
    const out = join(folder, 'u.zip')
    expect((await caretaker('gdpr export', ['ada@example.org'], { out })).human).toContain('Not recorded')
    expect((await readFile(out)).subarray(0, 2).toString()).toBe('PK')
    expect((await caretaker('gdpr erase', ['1'], { 'dry-run': true })).human).toContain('Nothing was changed.')
    expect((await caretaker('gdpr erase', ['1'], { yes: true })).value).toMatchObject({
      status: 'erased',
      request: null,
      receipt: { tombstone: expect.any(String) },
    })
    expect((await caretaker('gdpr erase', ['1'], { yes: true })).human).toContain('erased already')
    expect((await caretaker('gdpr requests', [])).value).toEqual([])
  })

  it('tells a receipt as it was signed from one that was changed', async () => {
    const { value } = await caretaker('gdpr erase', ['3'], { yes: true })
    const file = join(folder, 'receipt.json')
    await writeFile(file, JSON.stringify(value))
    expect((await caretaker('gdpr receipt', [file])).human).toContain('as it was signed')
    const before = process.exitCode
    await writeFile(file, JSON.stringify(value).replace(/"rows":\d+/, '"rows":0'))
    expect((await caretaker('gdpr receipt', [file])).human).toContain('NOT AS IT WAS SIGNED')
    expect(process.exitCode).toBe(1)
    process.exitCode = before
    await writeFile(file, '{}')
    await expect(caretaker('gdpr receipt', [file])).rejects.toMatchObject({ code: 'bad_request' })
  })

  it('fails the lint by its exit code', async () => {
    const before = process.exitCode
    const { value } = await caretaker('gdpr lint', [])
    expect([process.exitCode, (value as { findings: unknown[] }).findings.length > 0]).toEqual([1, true])
    process.exitCode = before
  })

  it.each([
    ['gdpr erase', ['2'], {}, /--dry-run, then pass --yes/],
    ['gdpr erase', [], { yes: true }, /needs SUBJECT/],
    ['gdpr erase', ['2', '3'], { yes: true }, /takes one person, found 2/],
    ['gdpr export', [''], {}, /needs SUBJECT/],
    ['gdpr map', [], { format: 'svg' }, /expected tree or mermaid/],
    ['gdpr requests', ['x'], {}, /takes no arguments/],
  ] as [string, string[], Invocation['flags'], RegExp][])('refuses `%s %j %j` as bad usage', async (name, args, flags, reason) => {
    await expect(caretaker(name, args, flags)).rejects.toMatchObject({ code: 'bad_request', detail: expect.stringMatching(reason) })
    expect(await test.db.query('select from users where id = 2')).toHaveLength(1)
  })

  it('overwrites a file only when told to', async () => {
    const out = join(folder, 'there.zip')
    await writeFile(out, 'mine')
    await expect(caretaker('gdpr export', ['2'], { out })).rejects.toMatchObject({ code: 'bad_request' })
    expect(await readFile(out, 'utf8')).toBe('mine')
    await caretaker('gdpr export', ['2'], { out, force: true })
    expect((await readFile(out)).subarray(0, 2).toString()).toBe('PK')
  })
})
