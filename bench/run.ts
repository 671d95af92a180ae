import { readdir } from 'node:fs/promises'

// `npm run bench -- NAME`: runs bench/NAME.ts, which prints one JSON line a figure.
const names = (await readdir(import.meta.dirname))
  .map((file) => file.replace(/\.ts$/, ''))
  .filter((name) => !['run', 'figures'].includes(name))
const name = process.argv[2]
if (name === undefined || !names.includes(name)) {
  console.error(`npm run bench -- NAME, where NAME is one of: ${names.join(', ')}`)
  process.exit(2)
}
await import(`./${name}.ts`)
