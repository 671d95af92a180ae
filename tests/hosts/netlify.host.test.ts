import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { keyHash } from '../../lib/http/index.ts'
import { dashboard } from '../../lib/routes/ops/index.ts'
import { bundleFunctions } from '../../scripts/bundle-functions.ts'
import { useTestDatabase } from '../support/database.ts'
import { readNetlifyToml } from '../support/netlify-toml.ts'
import { backUpThroughBundles } from './backup-in-bundle.ts'
import { call, callThroughBootstrap, hostTools, own, root, type ZippedFunction, zipItAndShipIt } from './tools.ts'

/** What a function may weigh as it is uploaded, Netlify's own 0.4 MB included. */
const mostBytes = 1_500_000

/** The function's folder, and in it the file that Netlify's bootstrap is told to load. */
function startedBy(shipped: ZippedFunction | undefined): { file: string; cwd: string } {
  const cwd = shipped?.path ?? ''
  const [, file] = /getLambdaHandler\('(.+?)'\)/.exec(readFileSync(join(cwd, shipped?.entryFilename ?? ''), 'utf8')) ?? []
  if (file === undefined) throw new Error(`${cwd}: Netlify's entry point names no file`)
  return { cwd, file: join(cwd, file) }
}

describe.skipIf(!hostTools)('the functions as Netlify ships them', () => {
  const test = useTestDatabase()
  let folder: string
  let functions: Record<string, ZippedFunction>
  let archives: Record<string, ZippedFunction>

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'caretaker-netlify-'))
    const toml = readNetlifyToml()
    expect(toml.functions).toEqual({ directory: '.caretaker/functions/netlify', node_bundler: 'none' })
    await bundleFunctions('netlify')
    const { zipFunctions } = await zipItAndShipIt()
    const config: Record<string, { nodeBundler?: string; nodeVersion?: string; includedFiles?: string[] }> = {
      '*': { nodeBundler: 'none', nodeVersion: String(toml['build.environment']?.NODE_VERSION) },
    }
    for (const [table, { included_files: files = [] }] of Object.entries(toml))
      if (table.startsWith('functions.')) config[table.slice(10)] = { includedFiles: [files].flat() }
    const ship = async (archiveFormat: 'none' | 'zip') =>
      Object.fromEntries(
        (
          await zipFunctions(join(root, '.caretaker/functions/netlify'), join(folder, archiveFormat), {
            archiveFormat,
            basePath: root,
            repositoryRoot: root,
            config,
          })
        ).map((one) => [one.name, one]),
      )
    functions = await ship('none')
    archives = await ship('zip')
  }, 180_000)
  afterAll(() => rm(folder, { recursive: true, force: true }))

  const bundle = (name: string) => startedBy(functions[name])

  it('keep their paths, their schedule and their mode', () => {
    const shown = Object.fromEntries(
      Object.entries(functions).map(([name, { schedule, invocationMode, routes, runtimeVersion }]) => [
        name,
        { schedule, invocationMode, runtimeVersion, paths: routes?.map(({ pattern, methods }) => [pattern, ...methods].join(' ')) },
      ]),
    )
    const at = (...paths: string[]) => ({ schedule: undefined, invocationMode: 'stream', runtimeVersion: 'nodejs24.x', paths })
    expect(shown).toEqual({
      health: at('/health', '/health/*'),
      webhooks: at('/api/webhooks/*'),
      gdpr: at('/api/gdpr/*'),
      cron: at('/api/cron/*'),
      ops: at('/ops', '/ops/*', '/api/ops/*'),
      metrics: at('/metrics', '/metrics/*'),
      status: at('/status', '/status/*', '/status.json', '/api/v2/*'),
      openapi: at('/openapi.json'),
      worker: { ...at('/api/worker'), invocationMode: 'background' },
      tick: { ...at(), schedule: '* * * * *' },
    })
  })

  it('weigh little', () => {
    const sizes = Object.values(archives).map(({ name, size = 0 }) => ({ name, KB: Math.round(size / 1000) }))
    process.stdout.write(`${sizes.map(({ name, KB }) => `${name} ${KB} KB`).join(', ')}\n`)
    expect(Object.values(archives).filter(({ name, size = Number.POSITIVE_INFINITY }) => name !== 'worker' && size > mostBytes)).toEqual([])
  })

  it.each(Object.entries(own))("%s answers as itself through Netlify's bootstrap", async (name, { path, method, status, says }) => {
    const { cwd } = bundle(name)
    const entryPoint = join(cwd, functions[name]?.entryFilename ?? '')
    const answer = await callThroughBootstrap(
      entryPoint,
      cwd,
      { url: `https://caretaker.example${path}`, method },
      { CRON_SECRET: 'a-secret-of-twenty-eight-chars' },
    )
    expect({ status: answer?.status, says: answer?.body.includes(says) ? says : answer?.body }).toEqual({ status, says })
    expect(answer?.headers['content-security-policy']).toContain("default-src 'none'")
  })

  it('tick claims what is due', async () => {
    const { file, cwd } = bundle('tick')
    const [answer] = await call(file, cwd, [{ url: 'https://caretaker.example/', method: 'POST' }], { DATABASE_URL: test.url })
    expect(answer?.status).toBe(200)
    // Asks every job whether work waits for it, with what a clock carries.
    expect(JSON.parse(answer?.body ?? '')).toMatchObject({ troubled: [] })
    expect(await test.db.query(`select true as seen from caretaker.watched_jobs where job = 'backup'`)).toEqual([{ seen: true }])
  })

  it('show each page of the dashboard, and what is watched, out of the bundle', async () => {
    const { file, cwd } = bundle('ops')
    const key = `ck_${'x'.repeat(43)}`
    await test.db.execute(`insert into caretaker.api_keys (name, role, hash) values ('test', 'admin', $1::bytea)`, [keyHash(key)])
    const at = (path: string) => `https://caretaker.example${path}`
    const env = { DATABASE_URL: test.url }
    const form = { method: 'POST', headers: { origin: at(''), 'content-type': 'application/x-www-form-urlencoded' } }
    const [signedIn] = await call(file, cwd, [{ ...form, url: at('/ops/sign-in'), body: `key=${key}` }], env)
    const cookie = signedIn?.headers['set-cookie']?.split(';')[0] ?? ''
    expect(cookie).toMatch(/^__Host-caretaker-session=/)
    const paths = dashboard({ wake: async () => undefined })
      .filter(({ path, methods, auth }) => methods.includes('GET') && auth !== 'public' && !path.includes(':'))
      .map(({ path }) => path)
    expect(paths.length).toBeGreaterThan(10)
    const asked = [
      ...paths.map((path) => ({ url: at(path), headers: { cookie } })),
      { url: at('/api/ops/alerts/rules'), headers: { authorization: `Bearer ${key}` } },
    ]
    const answers = await call(file, cwd, asked, env)
    expect(answers.map(({ status }, index) => [asked[index]?.url, status])).toEqual(asked.map(({ url }) => [url, 200]))
  })

  it('back up a database, pg_dump included', async () => {
    await backUpThroughBundles({ cron: bundle('cron'), worker: bundle('worker') }, test.url)
  })
})

describe.skipIf(!hostTools)('the entries under Netlify’s own bundler', () => {
  let folder: string
  let functions: ZippedFunction[]

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'caretaker-netlify-'))
    const { zipFunctions } = await zipItAndShipIt()
    functions = await zipFunctions(join(root, 'netlify/functions'), folder, {
      archiveFormat: 'none',
      basePath: root,
      repositoryRoot: root,
      config: { '*': { nodeVersion: '24' } },
    })
  }, 180_000)
  afterAll(() => rm(folder, { recursive: true, force: true }))

  // Its way to trace files once put another function in the place of one: each must still be itself.
  it.each(Object.entries(own))('%s answers as itself', async (name, { path, method, status, says }) => {
    const { file, cwd } = startedBy(functions.find((one) => one.name === name))
    const [answer] = await call(file, cwd, [{ url: `https://caretaker.example${path}`, method }], {
      CRON_SECRET: 'a-secret-of-twenty-eight-chars',
    })
    expect({ status: answer?.status, says: answer?.body.includes(says) ? says : answer?.body }).toEqual({ status, says })
  })

  it('keep their schedule and mode', () => {
    expect(
      Object.fromEntries(
        functions
          .filter(({ schedule, invocationMode }) => schedule !== undefined || invocationMode === 'background')
          .map(({ name, schedule, invocationMode }) => [name, schedule ?? invocationMode]),
      ),
    ).toEqual({ tick: '* * * * *', worker: 'background' })
  })
})
