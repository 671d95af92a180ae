import { execFile } from 'node:child_process'
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { vercel } from '../functions/hosts-files.ts'
import { useTestDatabase } from '../support/database.ts'
import { backUpThroughBundles } from './backup-in-bundle.ts'
import { call, hostTools, own, root, vercelCli } from './tools.ts'

const run = promisify(execFile)

/** What a function may weigh, unpacked. */
const mostBytes = 1_500_000

interface Output {
  routes: { src?: string; dest?: string; handle?: string; status?: number; continue?: boolean; headers?: Record<string, string> }[]
  crons: { path: string; schedule: string }[]
}

interface FunctionConfig {
  handler: string
  runtime: string
  maxDuration: number
  memory: number
  filePathMap?: Record<string, string>
}

describe.skipIf(!hostTools)('the functions as Vercel ships them', () => {
  const test = useTestDatabase()
  let folder: string
  let output: Output

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'caretaker-vercel-'))
    // In a copy of the tree: the build replaces the entries in api/.
    const left = ['.git', '.ci', '.caretaker', '.netlify', '.vercel', 'node_modules']
    await cp(root, folder, { recursive: true, filter: (path) => !left.includes(relative(root, path).split('/')[0] ?? '') })
    const modules = [join(root, 'node_modules'), join(folder, 'node_modules')]
    // Linked where the file system can, which takes a moment; copied elsewhere.
    await run('cp', ['-al', ...modules]).catch(async () => {
      await rm(join(folder, 'node_modules'), { recursive: true, force: true })
      await run('cp', ['-a', ...modules])
    })
    await mkdir(join(folder, '.vercel'))
    const settings = { framework: null, installCommand: 'true', nodeVersion: '24.x' }
    await writeFile(join(folder, '.vercel/project.json'), JSON.stringify({ projectId: 'prj_none', orgId: 'team_none', settings }))
    const env = { ...process.env, VERCEL_TELEMETRY_DISABLED: '1', NO_UPDATE_NOTIFIER: '1' }
    await run(process.execPath, [vercelCli, 'build', '--yes'], { cwd: folder, env, timeout: 240_000, maxBuffer: 64 * 1024 * 1024 })
    output = JSON.parse(await readFile(join(folder, '.vercel/output/config.json'), 'utf8')) as Output
  }, 300_000)
  afterAll(() => rm(folder, { recursive: true, force: true }))

  const functionFolder = (name: string) => join(folder, '.vercel/output/functions/api', `${name}.func`)
  const configOf = async (name: string) =>
    JSON.parse(await readFile(join(functionFolder(name), '.vc-config.json'), 'utf8')) as FunctionConfig

  /** The function as it stands on the host: with the files that the output only names put in their places. */
  const deployed = async (name: string) => {
    const cwd = functionFolder(name)
    const { handler, filePathMap = {} } = await configOf(name)
    for (const [to, from] of Object.entries(filePathMap)) await cp(join(folder, from), join(cwd, to), { recursive: true })
    return { cwd, file: join(cwd, handler) }
  }

  /** The function that the built routes lead `path` to, and the query they add. */
  const routed = (path: string) => {
    const route = output.routes
      .slice(output.routes.findIndex(({ handle }) => handle === 'filesystem'))
      .find(({ src, dest, continue: goesOn }) => src !== undefined && dest !== undefined && goesOn !== true && new RegExp(src).test(path))
    return route?.dest
  }

  it('keep their limits', async () => {
    const names = (await readdir(join(folder, '.vercel/output/functions/api'))).map((name) => name.replace(/\.func$/, ''))
    expect(names.sort()).toEqual(Object.keys(own).sort())
    for (const name of names) {
      const { maxDuration, memory, runtime } = await configOf(name)
      const wanted = vercel.functions[`api/${name}.ts`] ?? vercel.functions['api/*.ts']
      expect({ name, maxDuration, memory, runtime }).toEqual({
        name,
        maxDuration: wanted?.maxDuration,
        memory: wanted?.memory,
        runtime: 'nodejs24.x',
      })
    }
  })

  it('keep their schedules', () => {
    expect(output.crons).toEqual(vercel.crons)
  })

  it('weigh little', async () => {
    const sizes: { name: string; KB: number }[] = []
    for (const name of Object.keys(own)) {
      const { cwd } = await deployed(name)
      const files = await readdir(cwd, { recursive: true, withFileTypes: true })
      const bytes = await Promise.all(
        files.filter((file) => file.isFile()).map(async (file) => (await readFile(join(file.parentPath, file.name))).length),
      )
      sizes.push({ name, KB: Math.round(bytes.reduce((sum, one) => sum + one, 0) / 1000) })
    }
    process.stdout.write(`${sizes.map(({ name, KB }) => `${name} ${KB} KB`).join(', ')}\n`)
    expect(sizes.filter(({ name, KB }) => name !== 'worker' && KB > mostBytes / 1000)).toEqual([])
  })

  it.each(Object.entries(own))('%s is reached at its address and answers as itself', async (name, { path, method, status, says }) => {
    if (path !== `/api/${name}`) expect(routed(path)).toBe(`/api/${name}`)
    const { file, cwd } = await deployed(name)
    // Vercel hands on the address as it was asked for, not the one it was rewritten to.
    const [answer] = await call(file, cwd, [{ url: `https://caretaker.example${path}`, method }], {
      CRON_SECRET: 'a-secret-of-twenty-eight-chars',
    })
    expect({ status: answer?.status, says: answer?.body.includes(says) ? says : answer?.body }).toEqual({ status, says })
  })

  it('serve the static files alone beside them', async () => {
    expect(await readdir(join(folder, '.vercel/output/static'), { recursive: true })).toEqual(['robots.txt'])
  })

  it('back up a database, pg_dump included', async () => {
    await backUpThroughBundles({ cron: await deployed('cron'), worker: await deployed('worker') }, test.url)
  })
})
