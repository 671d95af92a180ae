import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { bundleFunctions } from '../scripts/bundle-functions.ts'
import { percentile, printFigure } from './figures.ts'

/*
 * From the start of the process to the first answer, of each function as it is deployed and of a handler that does
 * nothing. The function's own request reaches no database: it is refused, or answered without. Runs take turns, so that
 * a busy moment of the machine falls on all alike.
 */

const rounds = 15
const root = resolve(import.meta.dirname, '..')

interface Subject {
  file: string
  cwd: string
  call: { url: string; method: string }
  budgetMs: number
}

const functions: Record<string, { path: string; method: string; budgetMs: number }> = {
  health: { path: '/health/live', method: 'GET', budgetMs: 60 },
  webhooks: { path: '/api/webhooks/stripe', method: 'POST', budgetMs: 60 },
  cron: { path: '/api/cron/tick', method: 'POST', budgetMs: 60 },
  status: { path: '/api/v2/nothing.json', method: 'GET', budgetMs: 60 },
  metrics: { path: '/metrics', method: 'GET', budgetMs: 150 },
  gdpr: { path: '/api/gdpr/export', method: 'POST', budgetMs: 150 },
  worker: { path: '/api/worker', method: 'POST', budgetMs: 150 },
  ops: { path: '/api/ops/jobs', method: 'GET', budgetMs: 150 },
  openapi: { path: '/openapi.json', method: 'GET', budgetMs: 150 },
}

const launcher = `
const { default: handler } = await import(process.argv[1])
const { url, method } = JSON.parse(process.argv[2])
const response = await handler.fetch(new Request(url, { method }), {})
await response.arrayBuffer()
process.stdout.write('.')
`

/** Milliseconds until the first answer. */
async function coldStart({ file, cwd, call }: Subject): Promise<number> {
  const started = performance.now()
  const child = spawn(process.execPath, ['--input-type=module', '--eval', launcher, pathToFileURL(file).href, JSON.stringify(call)], {
    cwd,
    env: { LOG_LEVEL: 'silent', CRON_SECRET: 'a-secret-of-twenty-eight-chars' },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const ended = once(child, 'exit')
  await Promise.race([
    once(child.stdout, 'data'),
    ended.then(([code]) => Promise.reject(new Error(`${file}: ended with ${String(code)} before it answered`))),
  ])
  const ms = performance.now() - started
  child.kill('SIGKILL')
  await ended
  return ms
}

interface Shipped {
  name: string
  path: string
  entryFilename: string
}

/** The bundles as Netlify's own tool ships them where `.ci` has it; otherwise as the build command leaves them. */
async function ship(folder: string): Promise<Map<string, { file: string; cwd: string }>> {
  const bundles = await bundleFunctions('netlify', join(folder, 'bundles'))
  const tool = join(root, '.ci/package.json')
  if (!existsSync(join(root, '.ci/node_modules/@netlify/zip-it-and-ship-it'))) {
    console.error("Measured without Netlify's own packaging; `npm install --prefix .ci --ignore-scripts` installs it.")
    return new Map(bundles.map(({ name, file }) => [name, { file: join(file, '..', `${name}.mjs`), cwd: join(file, '..') }]))
  }
  const { zipFunctions } = (await import(pathToFileURL(createRequire(tool).resolve('@netlify/zip-it-and-ship-it')).href)) as {
    zipFunctions(from: string, to: string, options: object): Promise<Shipped[]>
  }
  const config = Object.fromEntries(
    bundles.map(({ name }) => [name, { nodeBundler: 'none', nodeVersion: '24', includedFiles: [`bundles/${name}/*.mjs`] }]),
  )
  const shipped = await zipFunctions(join(folder, 'bundles'), join(folder, 'shipped'), {
    archiveFormat: 'none',
    basePath: folder,
    repositoryRoot: folder,
    config,
  })
  return new Map(
    await Promise.all(
      shipped.map(async ({ name, path, entryFilename }) => {
        const [, file = ''] = /getLambdaHandler\('(.+?)'\)/.exec(await readFile(join(path, entryFilename), 'utf8')) ?? []
        return [name, { file: join(path, file), cwd: path }] as const
      }),
    ),
  )
}

const folder = await mkdtemp(join(tmpdir(), 'caretaker-cold-'))
try {
  await mkdir(join(folder, 'empty'))
  await writeFile(join(folder, 'empty/empty.mjs'), `export default { fetch: () => new Response('ok') }\n`)
  const shipped = await ship(folder)
  const address = (path: string) => `https://caretaker.example${path}`
  const subjects: Record<string, Subject> = {
    empty: { file: join(folder, 'empty/empty.mjs'), cwd: folder, call: { url: address('/'), method: 'GET' }, budgetMs: 0 },
  }
  for (const [name, { path, method, budgetMs }] of Object.entries(functions)) {
    const place = shipped.get(name)
    if (place === undefined) throw new Error(`no bundle of ${name}`)
    subjects[name] = { ...place, call: { url: address(path), method }, budgetMs }
  }
  const samples = new Map<string, number[]>(Object.keys(subjects).map((name) => [name, []]))
  // The first round warms the disk's cache and is not counted.
  for (let round = 0; round <= rounds; round++)
    for (const [name, subject] of Object.entries(subjects)) {
      const ms = await coldStart(subject)
      if (round > 0) samples.get(name)?.push(ms)
    }
  const median = (name: string) => percentile(samples.get(name) ?? [], 50)
  printFigure({ bench: 'cold-start', figure: 'an empty handler, p50', value: median('empty'), unit: 'ms' })
  for (const [name, { budgetMs }] of Object.entries(functions)) {
    const over = median(name) - median('empty')
    printFigure({
      bench: 'cold-start',
      figure: `${name} over the empty handler, p50`,
      value: over,
      unit: 'ms',
      budget: budgetMs,
      holds: over <= budgetMs,
    })
  }
} finally {
  await rm(folder, { recursive: true, force: true })
}
