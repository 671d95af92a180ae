import { readdirSync, readFileSync } from 'node:fs'

const root = new URL('../../', import.meta.url)

export interface VercelJson {
  functions: Record<string, { maxDuration: number; memory: number; includeFiles?: string }>
  rewrites: { source: string; destination: string }[]
  crons: { path: string; schedule: string }[]
  headers: { source: string; headers: { key: string; value: string }[] }[]
}

export const vercel = JSON.parse(readFileSync(new URL('vercel.json', root), 'utf8')) as VercelJson

/** The entries of a folder, by function name. */
export function entries(folder: 'netlify/functions' | 'api'): Record<string, { text: string; url: string }> {
  const files = readdirSync(new URL(folder, root))
  return Object.fromEntries(
    files.map((file) => {
      const url = new URL(`${folder}/${file}`, root)
      return [file.replace(/\.ts$/, ''), { text: readFileSync(url, 'utf8'), url: url.href }]
    }),
  )
}

/** The function that Vercel's filesystem or, after it, the first rewrite that matches calls for `path`; or undefined. */
export function vercelFunctionFor(path: string): string | undefined {
  const file = /^\/api\/([a-z]+)$/.exec(path)?.[1]
  if (file !== undefined && file in entries('api')) return file
  const destination = vercel.rewrites.find(({ source }) => new RegExp(`^${source}$`).test(path))?.destination
  return destination?.replace(/^\/api\//, '')
}

/** Whether a path of a Netlify `config` takes `path`: `/*` stands for everything below. */
export function netlifyTakes(pattern: string, path: string): boolean {
  return new RegExp(`^${pattern.replaceAll('.', '\\.').replace(/\*$/, '.+')}$`).test(path)
}
