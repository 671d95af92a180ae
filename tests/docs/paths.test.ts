import { existsSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'

const root = fileURLToPath(new URL('../../', import.meta.url))

async function documents(): Promise<string[]> {
  const files = await readdir(`${root}docs`, { recursive: true })
  return ['README.md', ...files.filter((file) => file.endsWith('.md')).map((file) => `docs/${file}`)]
}

it('name only files and folders that exist', async () => {
  const missing: string[] = []
  for (const document of await documents()) {
    const text = await readFile(`${root}${document}`, 'utf8')
    const inFlow = [...text.matchAll(/\[((?:lib|cli|local|api|netlify|pages|examples|supabase|tests|bench)(?:\/[\w.-]+)*)\]/g)]
    const inCode = [...text.matchAll(/`((?:lib|cli|local|api|netlify|pages|examples|supabase|tests|bench|docs|lint|scripts)\/[\w./-]*)`/g)]
    for (const [, path] of [...inFlow, ...inCode]) {
      if (path !== undefined && !existsSync(`${root}${path}`)) missing.push(`${document}: ${path}`)
    }
    for (const [, target] of text.matchAll(/\]\((?!https?:|#|mailto:)([^)#\s]+)[^)]*\)/g)) {
      if (target === undefined) continue
      const from = document.includes('/') ? document.slice(0, document.lastIndexOf('/') + 1) : ''
      if (!existsSync(new URL(target, `file://${root}${from}`))) missing.push(`${document}: ${target}`)
    }
  }
  expect(missing).toEqual([])
})

it('list every domain of lib in the architecture', async () => {
  const text = await readFile(`${root}docs/architecture.md`, 'utf8')
  const folders = (await readdir(`${root}lib`, { withFileTypes: true }))
    .filter((entry) => entry.isDirectory())
    .map((entry) => `lib/${entry.name}`)
  expect(folders.filter((folder) => !text.includes(folder))).toEqual([])
})
