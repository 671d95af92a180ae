import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Command } from '../../cli/command.ts'
import { help, overview, takes } from '../../cli/help.ts'
import { table } from '../../cli/output.ts'
import { caretaker } from './caretaker.ts'

let cwd: string
beforeAll(async () => {
  cwd = await mkdtemp(join(tmpdir(), 'caretaker-usage-'))
})
afterAll(() => rm(cwd, { recursive: true, force: true }))

const nowhere = 'postgres://somebody:hunter2-secret@127.0.0.1:1/app'

describe('bad usage ends with 2 and says what to do', () => {
  const cases: [string, string[], RegExp][] = [
    ['no command', [], /^$/],
    ['an unknown command', ['backups'], /no command "backups".*--help.*Did you mean "backup"/],
    ['half a command', ['backup'], /"backup" needs one of its commands/],
    ['an unknown half', ['gdpr', 'expor'], /no command "gdpr expor".*"gdpr export"/],
    ['an unknown option', ['plan', '--databse-url', 'x'], /no option "--databse-url". Did you mean "--database-url"/],
    ['an option without its value', ['plan', '--config'], /--config/],
    ['an empty option', ['plan', '--config', ''], /--config is empty/],
    ['a value for a switch', ['jobs', 'run', 'backup', '--again=yes'], /--again/],
    ['one argument too many', ['db', 'ping', 'now'], /"now" is one argument too many/],
    ['one argument too few', ['jobs', 'run', '--database-url', nowhere], /takes the name of one job, found none/],
    ['a database URL that is none', ['db', 'ping', '--database-url', 'localhost'], /--database-url: expected postgres:\/\//],
    [
      'a store that is none',
      ['backup', 'list', '--database-url', nowhere, '--store', 'http://x'],
      /^caretaker: --store: found "http:\/\/x"/,
    ],
    [
      'a recipient that is none',
      ['backup', 'run', '--database-url', nowhere, '--recipient', 'age1x'],
      /^caretaker: --recipient: found "age1x"/,
    ],
    ['a policy that is not there', ['plan', '--config', 'nowhere.ts'], /--config: there is no file/],
    ['a folder as policy', ['plan', '--config', '.'], /is not a policy; expected a TypeScript or JavaScript file/],
    ['a job that is not there', ['jobs', 'run', 'bakup', '--database-url', nowhere], /no job "bakup"/],
    ['an erasure nobody confirmed', ['gdpr', 'erase', 'x', '--database-url', nowhere], /pass --yes/],
    ['a port that is none', ['up', '--port', '99999'], /--port: found "99999"/],
  ]
  it.each(cases)('%s', async (_name, args, message) => {
    const { code, stdout, stderr } = await caretaker(args, { cwd })
    expect({ code, stdout: args.length === 0 ? '' : stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr).toMatch(message)
    expect(stderr).not.toMatch(/\n {4}at |hunter2/)
  })

  it('and with --json with one document that says the same', async () => {
    const { code, stdout } = await caretaker(['plan', '--frob', '--json'], { cwd })
    expect(code).toBe(2)
    expect(JSON.parse(stdout)).toMatchObject({ error: { code: 'bad_request', detail: expect.stringContaining('"--frob"') } })
  })
})

describe('a policy that cannot be used is told by its path', () => {
  const from = fileURLToPath(new URL('../../lib/config/index.ts', import.meta.url))
  const cases: [string, string, RegExp][] = [
    ['a syntax error', 'export default {{', /policy\.ts cannot be loaded: /],
    ['what throws', 'throw new Error("boom")', /policy\.ts cannot be loaded: boom/],
    ['no default export', 'export const policy = {}', /expected `export default defineConfig/],
    ['another default export', 'export default 5', /expected `export default defineConfig/],
    [
      'a wrong key',
      `import { defineConfig } from '${from}'\nexport default defineConfig({ app: { nam: 'x' } })`,
      /app\.nam: not a known key; did you mean "name"/,
    ],
    ['a plain object', 'export default { app: { name: "x" }, health: 5 }', /health: found 5/],
  ]
  it.each(cases)('%s', async (name, source, message) => {
    const folder = join(cwd, name.replaceAll(' ', '-'))
    await mkdir(folder)
    await writeFile(join(folder, 'policy.ts'), source)
    const { code, stdout, stderr } = await caretaker(['plan', '--config', 'policy.ts', '--database-url', nowhere], { cwd: folder })
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
    expect(stderr).toMatch(message)
    expect(stderr).toMatch(/\(policy_invalid\)\n$/)
    expect(stderr).not.toMatch(/\n {4}at /)
  })
})

it('a database that is down is said without its password', async () => {
  const { code, stdout, stderr } = await caretaker(['db', 'ping', '--json', '--database-url', nowhere], { cwd })
  expect(code).toBe(1)
  expect(JSON.parse(stdout)).toMatchObject({ error: { code: 'database_unavailable' } })
  expect(stdout + stderr).not.toMatch(/hunter2/)
  expect(stderr).toMatch(/ECONNREFUSED.*Check host and port/)
})

it('the version is that of package.json', async () => {
  const { version } = JSON.parse(await readFile(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }
  expect(await caretaker(['--version'], { cwd })).toMatchObject({ code: 0, stdout: `${version}\n` })
})

describe('help', () => {
  const all: Command[] = []
  beforeAll(async () => {
    const folder = new URL('../../cli/commands/', import.meta.url)
    for (const file of await readdir(folder)) {
      const { commands } = (await import(new URL(file, folder).href)) as { commands: Command[] }
      all.push(...commands)
    }
  })

  it('of every command fits 80 columns and knows each option', () => {
    const texts = [overview(all), ...all.map(help)]
    expect(texts.flatMap((text) => text.split('\n')).filter((line) => line.length > 80)).toEqual([])
    for (const command of all)
      for (const option of Object.keys(command.options ?? {})) expect(`${command.name} ${command.usage}`).toContain(`--${option}`)
  })

  it('answers `help COMMAND` and `COMMAND --help` alike', async () => {
    const [asked, flagged] = await Promise.all([
      caretaker(['help', 'backup', 'run'], { cwd }),
      caretaker(['backup', 'run', '--help'], { cwd }),
    ])
    expect(asked).toEqual(flagged)
    expect(asked).toMatchObject({ code: 0, stderr: '' })
  })

  it('counts the words of a usage', () => {
    expect(['', '[ID] [--identity FILE]', 'ID --to URL [--only SCHEMA.TABLE…]', '[JOB…]', '--role ROLE [--name NAME]'].map(takes)).toEqual([
      0,
      1,
      1,
      Number.POSITIVE_INFINITY,
      0,
    ])
  })
})

it('a table on a narrow terminal breaks its last column, or puts it below', () => {
  const rows = [['a', 'one two three four five six']]
  expect(table(['x', 'what'], rows, undefined)).toContain('one two three four five six')
  expect(table(['x', 'what'], rows, 23).split('\n').slice(2)).toEqual(['a  one two three four', '   five six'])
  expect(table(['x', 'what'], rows, 18).split('\n').slice(3)).toEqual(['a', '    one two three', '    four five six'])
})
