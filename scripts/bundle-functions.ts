import { readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { basename, join, relative, resolve } from 'node:path'
import { type Plugin, rolldown } from 'rolldown'

/*
 * `node scripts/bundle-functions.ts netlify|vercel`: what the hosts run before they deploy. A function becomes one file
 * with what it always needs, and one for each part that it loads when it needs it. The hosts' own bundlers leave npm
 * packages as they are, of which zod alone then costs 44 ms of a cold start, and Netlify's loads all parts at once
 * (docs/hosts.md has the figures).
 */

const root = resolve(import.meta.dirname, '..')
const entryFolder = { netlify: 'netlify/functions', vercel: 'api' } as const

type Host = keyof typeof entryFolder

export interface Bundle {
  name: string
  /** The file with the handler; the parts it loads lie beside it. */
  file: string
  /** Of all its files. */
  bytes: number
}

/** Only the worker runs jobs: the others claim slots and enqueue, and do without the jobs' verbs and the queue's engine. */
const leftToTheWorker: Plugin = {
  name: 'left-to-the-worker',
  resolveId(source, importer, { kind }) {
    const left = kind === 'dynamic-import' && (source === 'pg-boss' || importer === join(root, 'lib/catalog.ts'))
    return left ? `\0worker:${source}` : null
  },
  load: (id) => (id.startsWith('\0worker:') ? `throw new Error('The worker carries ${id.slice(8)}; this function does not.')` : null),
}

/** What describes the routes carries none of what their verbs load when they run. */
const describesOnly: Plugin = {
  name: 'describes-only',
  resolveId(source, importer, { kind }) {
    // Pages are for people: none of the dashboard's routes is described.
    if (source === './ops/index.ts' && importer === join(root, 'lib/routes/ops.ts')) return '\0no-dashboard'
    const verb = importer !== undefined && /\/lib\/(gdpr|webhooks|health|jobs)\//.test(importer)
    return kind === 'dynamic-import' && verb ? `\0other:${source}` : null
  },
  load: (id) =>
    id === '\0no-dashboard'
      ? 'export const dashboard = () => []'
      : id.startsWith('\0other:')
        ? `throw new Error('This function describes the routes and runs none of them: ${id.slice(7)}.')`
        : null,
}

/** Bundles every entry of `host` into a folder of its own under `output`; returns them by name. */
export async function bundleFunctions(host: Host, output = join(root, '.caretaker/functions', host)): Promise<Bundle[]> {
  await rm(output, { recursive: true, force: true })
  const names = (await readdir(join(root, entryFolder[host]))).filter((file) => file.endsWith('.ts')).map((file) => basename(file, '.ts'))
  const migrations = (await readdir(join(root, 'supabase/migrations')))
    .filter((file) => file.endsWith('.sql'))
    .map((file) => file.slice(0, 14))
  const bundles: Bundle[] = []
  for (const name of names.sort()) {
    const entry = join(root, entryFolder[host], `${name}.ts`)
    const folder = join(output, name)
    const build = await rolldown({
      input: entry,
      cwd: root,
      platform: 'node',
      // What lib/platform/migrations.ts compares the database with, where its files are not at hand.
      transform: { define: { CARETAKER_MIGRATIONS: JSON.stringify(migrations.sort()) } },
      // pg's optional parts, which are not installed.
      external: ['pg-native', 'pg-cloudflare'],
      plugins: name === 'worker' ? [] : name === 'openapi' ? [leftToTheWorker, describesOnly] : [leftToTheWorker],
    })
    const { output: files } = await build.write({
      dir: folder,
      format: 'esm',
      entryFileNames: 'function.mjs',
      chunkFileNames: '[name]-[hash].mjs',
      // Names of functions and classes stay: they are what a stack trace in the host's log is made of.
      minify: { compress: true, mangle: { toplevel: false, keepNames: true }, codegen: { removeWhitespace: true } },
      comments: { legal: false },
    })
    await build.close()
    const bytes = files.reduce((sum, file) => sum + Buffer.byteLength(file.type === 'chunk' ? file.code : file.source), 0)
    if (host === 'netlify')
      await writeFile(
        join(folder, `${name}.mjs`),
        `export { default } from './function.mjs'\nexport const config = ${await configOf(entry)}\n`,
      )
    bundles.push({ name, file: join(folder, 'function.mjs'), bytes })
  }
  return bundles
}

/** Netlify reads a function's `config` without running it, and takes plain literals alone: a bundler's rendering of it is lost on it. */
async function configOf(entry: string): Promise<string> {
  const literal = /^export const config: Config = (\{[\s\S]*\})$/m.exec(await readFile(entry, 'utf8'))?.[1]
  if (literal === undefined) throw new Error(`${entry}: expected "export const config: Config = { … }", a literal.`)
  return literal
}

if (import.meta.main) {
  const host = process.argv[2]
  if (host !== 'netlify' && host !== 'vercel') {
    console.error('node scripts/bundle-functions.ts netlify|vercel')
    process.exit(2)
  }
  // Vercel takes functions from `api` alone, so there each entry makes way for one that names its bundle.
  if (host === 'vercel' && process.env.VERCEL !== '1') {
    console.error('This replaces the entries in api/, so it runs on Vercel (VERCEL=1) or in a copy of the tree.')
    process.exit(2)
  }
  for (const { name, file, bytes } of await bundleFunctions(host)) {
    console.log(`${name.padEnd(10)} ${Math.ceil(bytes / 1024)} KiB`)
    if (host === 'vercel')
      await writeFile(join(root, 'api', `${name}.ts`), `// @ts-nocheck\nexport { default } from '${relative(join(root, 'api'), file)}'\n`)
  }
}
