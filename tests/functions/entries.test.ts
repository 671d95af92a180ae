import { describe, expect, it } from 'vitest'
import policy from '../../caretaker.config.ts'
import { jobs } from '../../lib/catalog.ts'
import { secured } from '../../lib/http/security-headers.ts'
import { vercelCrons } from '../../lib/jobs/index.ts'
import { functions } from '../../lib/routes/index.ts'
import { readNetlifyToml } from '../support/netlify-toml.ts'
import { entries, netlifyTakes, vercel, vercelFunctionFor } from './hosts-files.ts'

const netlify = entries('netlify/functions')
const api = entries('api')
const names = Object.keys(functions)
const routes = Object.entries(functions).flatMap(([name, make]) =>
  make().map((route) => ({ name, path: route.path, sample: route.path.replaceAll(/:\w+/g, 'sample') })),
)

interface EntryConfig {
  path?: string | string[]
  schedule?: string
  background?: boolean
}

const configs = Object.fromEntries(
  await Promise.all(
    Object.entries(netlify).map(async ([name, { url }]) => [name, ((await import(url)) as { config: EntryConfig }).config] as const),
  ),
) as Record<string, EntryConfig>
const paths = (config: EntryConfig | undefined) => [config?.path ?? []].flat()

describe('entries', () => {
  it('exist on both hosts for every function; the clock is a function on Netlify alone', () => {
    expect(Object.keys(netlify).sort()).toEqual([...names, 'tick'].sort())
    expect(Object.keys(api).sort()).toEqual([...names].sort())
  })

  it.each([
    ...Object.entries(netlify).map(([name, { text }]) => [`netlify/functions/${name}.ts`, text] as const),
    ...Object.entries(api).map(([name, { text }]) => [`api/${name}.ts`, text] as const),
  ])('%s is a sentence: at most 15 lines, who may call, one handler', (_file, text) => {
    const lines = text.trimEnd().split('\n')
    expect(lines.length).toBeLessThanOrEqual(15)
    expect(text).toMatch(
      /^\/\*\* .*(Public|[Aa]uthenticated|CRON_SECRET|clock alone).* \*\/\nexport default on(Netlify|NetlifySchedule|Vercel)\(/m,
    )
    expect(lines.filter((line) => !/^(import |\/\*\* |export default |export const config: Config = |$)/.test(line))).toEqual([])
  })

  it.each(Object.entries(netlify))('netlify/functions/%s.ts has a config that Netlify can read without running it', (_name, { text }) => {
    const [, literal] = /^export const config: Config = (\{.*\})$/m.exec(text) ?? []
    // Names, strings, lists of strings, booleans; nothing computed.
    expect(literal).toMatch(/^\{ \w+: ('[^']*'|\[('[^']*'(, )?)+\])(, background: true)? \}$/)
  })

  it('run the worker in the background, and nothing else', () => {
    expect(Object.keys(configs).filter((name) => configs[name]?.background === true)).toEqual(['worker'])
    expect(netlify.worker?.text).toContain(`onNetlify(worker, policy, 'background')`)
  })
})

describe('paths', () => {
  it.each(routes)('$path reaches the function $name, and no other', ({ name, sample }) => {
    expect(names.filter((one) => paths(configs[one]).some((pattern) => netlifyTakes(pattern, sample)))).toEqual([name])
    expect(vercelFunctionFor(sample)).toBe(name)
  })

  it('of the hosts are those of the routes: none leads nowhere', () => {
    for (const [name, config] of Object.entries(configs))
      for (const pattern of paths(config))
        expect([pattern, routes.some((route) => route.name === name && netlifyTakes(pattern, route.sample))]).toEqual([pattern, true])
    for (const { source, destination } of vercel.rewrites)
      expect([
        source,
        routes.some((route) => `/api/${route.name}` === destination && new RegExp(`^${source}$`).test(route.sample)),
      ]).toEqual([source, true])
  })

  it('nobody answers lead to no function', () => {
    for (const path of ['/', '/healthy', '/api', '/api/', '/apis/cron/tick', '/openapi.jsonx', '/.netlify/functions/worker']) {
      expect([path, names.filter((one) => paths(configs[one]).some((pattern) => netlifyTakes(pattern, path)))]).toEqual([path, []])
      expect([path, vercelFunctionFor(path)]).toEqual([path, undefined])
    }
  })

  it('carry no named parameters on Vercel, which would add them to the query', () => {
    expect(vercel.rewrites.filter(({ source }) => source.includes(':'))).toEqual([])
  })
})

describe('schedules', () => {
  it("of Vercel are the clock's minute, which is that of minutely jobs too, and each other job's own time, in UTC", () => {
    const { crons } = vercelCrons(jobs(policy), 'pro')
    expect(vercel.crons).toEqual(crons)
    expect(crons.length).toBeGreaterThan(1)
    // The tree's own policy says everything in UTC: its expressions are those of the file.
    for (const { name, schedule } of jobs(policy))
      if (schedule?.timezone === 'UTC' && schedule.cron !== '* * * * *')
        expect(vercel.crons).toContainEqual({ path: `/api/cron/${name}`, schedule: schedule.cron })
  })

  it('of Netlify are the minute alone: the tick finds what is due', () => {
    expect(Object.entries(configs).flatMap(([name, { schedule }]) => (schedule === undefined ? [] : [[name, schedule]]))).toEqual([
      ['tick', '* * * * *'],
    ])
  })
})

describe('limits', () => {
  it("keep to Vercel's smallest plan", () => {
    expect(Object.keys(api).length).toBeLessThanOrEqual(12)
    expect(Math.max(...Object.values(vercel.functions).map(({ maxDuration }) => maxDuration))).toBeLessThanOrEqual(300)
  })

  it.each(Object.entries(api))('api/%s.ts knows how long it may run', (name, { text }) => {
    // The first pattern that matches counts.
    const [, limits] =
      Object.entries(vercel.functions).find(([pattern]) => new RegExp(`^${pattern.replace('*', '[^/]*')}$`).test(`api/${name}.ts`)) ?? []
    const [, seconds = '60'] = /onVercel\(\w+, policy(?:, (\d+))?\)/.exec(text) ?? []
    expect(limits?.maxDuration).toBe(Number(seconds))
  })

  it('give the worker, and only it, what pg_dump reads from disk', () => {
    const { functions: _all, ...toml } = readNetlifyToml()
    const carried = Object.entries(toml).flatMap(([table, { included_files: files = [] }]) =>
      [files].flat().some((file) => file.includes('pg-dump')) ? [table] : [],
    )
    expect(carried).toEqual(['functions.worker'])
    expect(
      Object.entries(vercel.functions).flatMap(([pattern, { includeFiles }]) => (includeFiles?.includes('pg-dump') ? [pattern] : [])),
    ).toEqual(['api/worker.ts'])
  })

  it("carry every function's own parts on Netlify", () => {
    const toml = readNetlifyToml()
    for (const name of Object.keys(netlify))
      expect([name, [toml[`functions.${name}`]?.included_files ?? []].flat()[0]]).toEqual([
        name,
        `.caretaker/functions/netlify/${name}/*.mjs`,
      ])
  })
})

describe('headers', () => {
  const own = Object.fromEntries(
    [...secured(new Response(), 'x').headers].filter(([name]) => !['cache-control', 'x-request-id'].includes(name)),
  )
  const lower = (headers: Iterable<[string, unknown]>) =>
    Object.fromEntries([...headers].map(([name, value]) => [name.toLowerCase(), value]))

  it('of static answers are those of every other answer, on both hosts', () => {
    expect(Object.keys(own).length).toBeGreaterThan(4)
    expect(lower(Object.entries(readNetlifyToml()['headers.values'] ?? {}))).toEqual(own)
    expect(vercel.headers.map(({ source }) => source)).toEqual(['/(.*)'])
    expect(lower((vercel.headers[0]?.headers ?? []).map(({ key, value }) => [key, value]))).toEqual(own)
  })
})
