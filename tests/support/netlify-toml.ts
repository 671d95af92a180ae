import { readFileSync } from 'node:fs'

type Value = string | string[]

/** netlify.toml's tables by name, as far as it uses TOML: strings, and lists of strings. @throws on anything else */
export function readNetlifyToml(file = new URL('../../netlify.toml', import.meta.url)): Record<string, Record<string, Value>> {
  const text = readFileSync(file, 'utf8')
    .replaceAll(/^\s*#.*$/gm, '')
    // A list over several lines becomes one line.
    .replaceAll(/= \[([^\]]*)\]/g, (_all, items: string) => `= [${items.replaceAll(/\s*\n\s*/g, ' ').replace(/,\s*$/, '')}]`)
  const tables: Record<string, Record<string, Value>> = {}
  let table: Record<string, Value> = {}
  for (const line of text.split('\n').map((one) => one.trim())) {
    if (line === '') continue
    const [, name] = /^\[+([\w.-]+)\]+$/.exec(line) ?? []
    if (name !== undefined) {
      table = tables[name] ??= {}
      continue
    }
    const [, key, value] = /^([\w-]+) = (.+)$/.exec(line) ?? []
    if (key === undefined || value === undefined) throw new Error(`netlify.toml: not understood: ${line}`)
    table[key] = JSON.parse(value) as Value
  }
  return tables
}
