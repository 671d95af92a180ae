import { writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { envExample } from '../lib/platform/env.ts'

await writeFile(fileURLToPath(new URL('../.env.example', import.meta.url)), envExample())
