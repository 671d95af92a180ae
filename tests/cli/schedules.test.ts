import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import policy from '../../caretaker.config.ts'
import { hostFile, withCrons, withNetlifySchedule } from '../../cli/host-files.ts'
import { jobs } from '../../lib/catalog.ts'
import { defineConfig } from '../../lib/config/index.ts'
import { caretaker } from './caretaker.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'caretaker-schedules-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

describe("this tree's own files", () => {
  it.each(['netlify', 'vercel'] as const)('of %s have the schedules of the policy', async (platform) => {
    expect((await hostFile(root, platform, 'pro', jobs(policy))).difference).toEqual([])
  })
})

describe('vercel.json', () => {
  const crons = [{ path: '/api/cron/tick', schedule: '* * * * *' }]
  const written = '"crons": [\n    {\n      "path": "/api/cron/tick",\n      "schedule": "* * * * *"\n    }\n  ]'

  it.each([
    ['gets crons where it has none', '{\n  "framework": null\n}\n', `{\n  "framework": null,\n  ${written}\n}\n`],
    ['that is empty too', '{}', `{\n  ${written}\n}`],
    [
      'keeps everything around them, and keys of the same name elsewhere',
      '{ "a" : {"crons":[1]},\n  "crons" : [ {"path":"x","schedule":"}]"} ] , "b":"\\"crons\\": []",\n"z":[ ]}\n',
      `{ "a" : {"crons":[1]},\n  "crons" : ${written.slice('"crons": '.length)} , "b":"\\"crons\\": []",\n"z":[ ]}\n`,
    ],
    ['replaces what is no list', '{"crons":null,"b":1}', `{"crons":${written.slice('"crons": '.length)},"b":1}`],
  ])('%s', (_name, before, after) => {
    expect(withCrons(before, crons, 'vercel.json')).toBe(after)
    // A second time there is nothing to do, however it was laid out by hand.
    expect(withCrons(after, crons, 'vercel.json')).toBe(after)
    const byHand = `{"crons":${JSON.stringify(crons)}}`
    expect(withCrons(byHand, crons, 'vercel.json')).toBe(byHand)
  })

  it.each([
    ['{"crons":[}', /vercel\.json is not JSON/],
    ['[]', /vercel\.json: expected a JSON object/],
  ])('that cannot be read is said: %s', (text, message) => {
    expect(() => withCrons(text, crons, 'vercel.json')).toThrow(message)
  })
})

describe("Netlify's literal", () => {
  const literal = "export const config: Config = { schedule: '* * * * *' }"
  it.each([
    ['with another time', "export const config: Config = { schedule: '*/5 * * * *' }"],
    ['that is not read without running it', "export const config = { schedule: '* * * * *' } satisfies Config"],
    [
      'over several lines, with braces in a string',
      "export const config = {\n  // {\n  schedule: '}',\n  nested: { a: 1 } }} as Config".replace('// {\n', '').replace('}}', '} }'),
    ],
  ])('%s is made one line that is', (_name, before) => {
    const text = `import x from 'y'\n\nexport default x\n\n${before}\nconst after = 1\n`
    const after = `import x from 'y'\n\nexport default x\n\n${literal}\nconst after = 1\n`
    expect(withNetlifySchedule(text, '* * * * *', 'tick.ts')).toBe(after)
    expect(withNetlifySchedule(after, '* * * * *', 'tick.ts')).toBe(after)
  })

  it('is added where there is none', () => {
    expect(withNetlifySchedule('export default 1\n', '* * * * *', 'tick.ts')).toBe(`export default 1\n\n${literal}\n`)
  })
})

describe('on Vercel', () => {
  const own = jobs(
    defineConfig({
      app: { name: 'Test', timezone: 'Europe/Berlin' },
      schedules: { health: { cron: '*/5 * * * *', timezone: 'UTC' }, housekeeping: false },
      jobs: {
        nightly: { schedule: '0 3 * * *', steps: [{ sql: 'select 1' }] },
        weekly: { schedule: { cron: '0 0 * * 1', startGrace: '1 hour' }, steps: [{ sql: 'select 1' }] },
        twice: { schedule: '0 9,21 * * *', steps: [{ sql: 'select 1' }] },
        seldom: { steps: [{ sql: 'select 1' }] },
      },
    }),
  )
  const project = async () => {
    await writeFile(join(folder, 'vercel.json'), '{}')
    return folder
  }
  const crons = (text: string) =>
    (JSON.parse(text) as { crons: { path: string; schedule: string }[] }).crons.map(({ path, schedule }) => `${path.slice(10)} ${schedule}`)

  it('the Pro plan gets the minute, and every job at its hours in UTC', async () => {
    const { wanted, notes } = await hostFile(await project(), 'vercel', 'pro', own)
    expect(crons(wanted)).toEqual([
      'tick * * * * *',
      'health */5 * * * *',
      'nightly 0 1,2 * * *',
      'weekly 0 22,23 * * 0',
      'twice 0 7,8,19,20 * * *',
    ])
    expect(notes).toEqual([])
  })

  it('the Hobby plan gets what fires once a day, an entry for each offset, and is told what it cannot do', async () => {
    const { wanted, notes } = await hostFile(await project(), 'vercel', 'hobby', own)
    expect(crons(wanted)).toEqual(['tick 0 0 * * *', 'nightly 0 1 * * *', 'nightly 0 2 * * *', 'weekly 0 22 * * 0', 'weekly 0 23 * * 0'])
    expect(notes.join('\n')).toMatch(/health.*more than once a day/)
    expect(notes.join('\n')).toMatch(/twice.*more than once a day/)
    expect(notes.join('\n')).toMatch(/GET \/api\/cron\/tick/)
    expect(notes.join('\n')).toMatch(/give nightly a startGrace of "1 hour"/)
  })

  it('more jobs than a project may have crons are fired by the tick', async () => {
    const many = Object.fromEntries(
      Array.from({ length: 101 }, (_, index) => [`job-${index}`, { schedule: `${index % 60} 3 * * *`, steps: [{ sql: 'select 1' }] }]),
    )
    const { wanted, notes } = await hostFile(await project(), 'vercel', 'pro', jobs(defineConfig({ app: { name: 'Test' }, jobs: many })))
    expect(crons(wanted)).toEqual(['tick * * * * *'])
    expect(notes).toEqual([expect.stringMatching(/more than the 100 crons/)])
  })
})

describe('caretaker schedules', () => {
  it('sync --check fails and shows the difference, sync writes it, and then there is none', { timeout: 60_000 }, async () => {
    const project = join(folder, 'project')
    await mkdir(join(project, 'netlify/functions'), { recursive: true })
    await cp(join(root, 'vercel.json'), join(project, 'vercel.json'))
    const file = join(project, 'vercel.json')
    const before = await readFile(file, 'utf8')
    await writeFile(file, before.replace('"0 3 * * *"', '"0 4 * * *"'))
    const sync = (...more: string[]) =>
      caretaker(['schedules', 'sync', '--platform', 'vercel', '--project', project, ...more], { cwd: folder })
    const checked = await sync('--check')
    expect(checked).toMatchObject({ code: 1 })
    expect(checked.stdout).toContain('-      "schedule": "0 4 * * *"\n+      "schedule": "0 3 * * *"')
    expect(await sync()).toMatchObject({ code: 0 })
    expect(await readFile(file, 'utf8')).toBe(before)
    const again = await sync('--check', '--json')
    expect(again.code).toBe(0)
    expect(JSON.parse(again.stdout)).toMatchObject({ inSync: true, difference: [], plan: 'pro' })
  })

  it.each([
    [['sync'], /--platform netlify or --platform vercel/],
    [['sync', '--platform', 'heroku'], /--platform: found "heroku", expected netlify or vercel/],
    [['sync', '--platform', 'netlify', '--plan', 'pro'], /--plan is for --platform vercel/],
    [['sync', '--platform', 'vercel', '--project', '/nowhere'], /no vercel\.json in \/nowhere/],
    [['list', '--count', '0'], /--count: found "0"/],
    [['list', 'backupp'], /did you mean "backup"/],
  ])('%s is refused with what was expected', { timeout: 60_000 }, async (args, message) => {
    const ended = await caretaker(['schedules', ...args], { cwd: folder })
    expect(ended.code).toBe(2)
    expect(ended.stderr).toMatch(message)
  })

  it('list shows the next firings there and in UTC', { timeout: 60_000 }, async () => {
    const config = join(folder, 'caretaker.config.ts')
    await writeFile(
      config,
      `export default { app: { name: 'Test', timezone: 'Australia/Lord_Howe' }, jobs: { nightly: { schedule: '0 3 * * *', steps: [{ sql: 'select 1' }] } } }`,
    )
    const { stdout, code } = await caretaker(['schedules', 'list', 'nightly', '--count', '2', '--json', '--config', config], {
      cwd: folder,
    })
    expect(code).toBe(0)
    const { jobs: rows } = JSON.parse(stdout) as { jobs: { job: string; next: { utc: string; local: string }[] }[] }
    expect(rows).toHaveLength(1)
    for (const { utc, local } of rows[0]?.next ?? []) {
      expect(local).toMatch(/^\w{3} \d{4}-\d\d-\d\d 03:00 \+1(0:30|1:00)$/)
      expect(utc).toMatch(/T16:(00|30):00/)
    }
  })
})
