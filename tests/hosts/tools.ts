import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'

export const root = resolve(import.meta.dirname, '../..')
const installed = join(root, '.ci/node_modules')

/** The hosts' tools are too heavy for everyone's install: `npm install --prefix .ci --ignore-scripts` brings them, and CI insists on them. */
export const hostTools = existsSync(join(installed, 'vercel')) || process.env.HOST_TOOLS === 'required'

export interface ZippedFunction {
  name: string
  path: string
  size?: number
  schedule?: string
  invocationMode?: string
  runtimeVersion?: string
  routes?: { pattern: string; methods: string[] }[]
  entryFilename: string
}

interface ZipItAndShipIt {
  zipFunctions(
    from: string,
    to: string,
    options: {
      archiveFormat: 'none' | 'zip'
      basePath: string
      repositoryRoot: string
      config: Record<string, { nodeBundler?: string; nodeVersion?: string; includedFiles?: string[] }>
    },
  ): Promise<ZippedFunction[]>
}

export async function zipItAndShipIt(): Promise<ZipItAndShipIt> {
  const file = createRequire(join(root, '.ci/package.json')).resolve('@netlify/zip-it-and-ship-it')
  return (await import(pathToFileURL(file).href)) as ZipItAndShipIt
}

export const vercelCli = join(installed, 'vercel/dist/vc.js')

export interface Call {
  method?: string
  url: string
  headers?: Record<string, string>
  body?: string
}

export interface Answer {
  status: number
  headers: Record<string, string>
  body: string
}

const launcher = `
const { default: handler } = await import(process.argv[1])
const answers = []
for (const { url, ...init } of JSON.parse(process.argv[2])) {
  const response = await handler.fetch(new Request(url, init), {})
  answers.push({ status: response.status, headers: Object.fromEntries(response.headers), body: await response.text() })
}
process.stdout.write(JSON.stringify(answers), () => process.exit(0))
`

/** Calls a bundled function in a process of its own, as a host does: from the bundle's folder, with nothing else around it. */
export function call(file: string, cwd: string, calls: Call[], env: Record<string, string> = {}): Promise<Answer[]> {
  return launch(launcher, file, cwd, calls, env)
}

async function launch(script: string, file: string, cwd: string, calls: Call | Call[], env: Record<string, string>): Promise<Answer[]> {
  const args = ['--input-type=module', '--eval', script, pathToFileURL(file).href, JSON.stringify(calls)]
  const { stdout } = await promisify(execFile)(process.execPath, args, {
    cwd,
    env: { LOG_LEVEL: 'silent', ...env },
    timeout: 240_000,
    maxBuffer: 64 * 1024 * 1024,
  })
  return JSON.parse(stdout) as Answer[]
}

const bootstrapLauncher = `
const { Writable } = await import('node:stream')
let sent
globalThis.awslambda = { streamifyResponse: (handler) => handler, HttpResponseStream: { from: (stream, head) => ((sent = head), stream) } }
const { handler } = await import(process.argv[1])
const chunks = []
const stream = new Writable({ write: (chunk, _encoding, done) => { chunks.push(chunk); done() } })
const { url, method } = JSON.parse(process.argv[2])
const event = { rawUrl: url, path: new URL(url).pathname, httpMethod: method, headers: { host: new URL(url).host }, isBase64Encoded: false, flags: {}, invocationMetadata: {} }
await handler(event, stream, { awsRequestId: 'one', getRemainingTimeInMillis: () => 20000, clientContext: {} })
const headers = Object.fromEntries(Object.entries(sent.multiValueHeaders).map(([name, values]) => [name, values.join(', ')]))
process.stdout.write(JSON.stringify([{ status: sent.statusCode, headers, body: Buffer.concat(chunks).toString() }]))
process.exit(0)
`

/** Calls a function as Netlify's machines do: its entry point, with the bootstrap that Netlify packs beside it, as a Lambda that streams. */
export async function callThroughBootstrap(
  entryPoint: string,
  cwd: string,
  request: Call,
  env: Record<string, string> = {},
): Promise<Answer | undefined> {
  const [answer] = await launch(bootstrapLauncher, entryPoint, cwd, request, env)
  return answer
}

/** A call for each function that only that function answers so, in an environment with nothing but a CRON_SECRET. */
export const own: Record<string, { path: string; method: string; status: number; says: string }> = {
  health: { path: '/health/live', method: 'GET', status: 200, says: '"status"' },
  webhooks: { path: '/api/webhooks/stripe', method: 'POST', status: 503, says: 'not_configured' },
  gdpr: { path: '/api/gdpr/export', method: 'POST', status: 401, says: 'unauthorized' },
  cron: { path: '/api/cron/tick', method: 'POST', status: 401, says: 'unauthorized' },
  worker: { path: '/api/worker', method: 'POST', status: 401, says: 'unauthorized' },
  metrics: { path: '/metrics', method: 'GET', status: 401, says: 'unauthorized' },
  status: { path: '/status.json', method: 'GET', status: 200, says: '"indicator"' },
  ops: { path: '/ops/sign-in', method: 'GET', status: 200, says: 'Sign in with the key' },
  openapi: { path: '/openapi.json', method: 'GET', status: 200, says: '"openapi":"3.1.0"' },
}
