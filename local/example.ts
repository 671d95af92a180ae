import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import type { Database } from '../lib/platform/db.ts'
import { CaretakerError } from '../lib/platform/errors.ts'

/** What an example in `examples/<name>/generate.ts` exports. */
interface Generator {
  generate(db: Database, options: { rows?: number }): Promise<Record<string, number>>
  exampleFile?(file: { bucket: string; name: string }): Uint8Array<ArrayBuffer>
}

const generators: Record<string, () => Promise<Generator>> = {
  canai: () => import('../examples/canai/generate.ts'),
}

/** The examples that can be loaded, by name. */
export const examples: readonly string[] = Object.keys(generators)

export interface LoadedExample {
  /** Rows by table. */
  rows: Record<string, number>
  /** The content of a file that a row of storage.objects stands for; null when the example has none. */
  file: ((file: { bucket: string; name: string }) => Uint8Array<ArrayBuffer>) | null
}

/** Makes an empty database look like a Supabase project's. */
export async function installSupabase(db: Database): Promise<void> {
  await db.execute(await readFile(fileURLToPath(new URL('./supabase/schema.sql', import.meta.url)), 'utf8'))
}

/**
 * Makes an empty database look like the example's Supabase project: Supabase's own schemas, the app's tables, its data.
 * @throws {CaretakerError} `invalid_input` when there is no such example
 */
export async function installExample(db: Database, name: string, options: { rows?: number } = {}): Promise<LoadedExample> {
  const load = generators[name]
  if (load === undefined) throw new CaretakerError('invalid_input', `There is no example "${name}"; expected ${examples.join(' or ')}.`)
  await installSupabase(db)
  await db.execute(await readFile(fileURLToPath(new URL(`../examples/${name}/schema.sql`, import.meta.url)), 'utf8'))
  const { generate, exampleFile } = await load()
  return { rows: await generate(db, options), file: exampleFile ?? null }
}
