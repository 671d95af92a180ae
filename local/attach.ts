import { resolve } from 'node:path'
import { loadSecrets } from './secrets.ts'
import { type Attached, defaultDataDirectory, readStack, secretEnvironment } from './stack.ts'

export { atAddress } from './at-address.ts'
export type { Attached }

/** The folder that holds what is kept on this machine. */
export function dataDirectoryOf(directory?: string): string {
  return resolve(directory ?? defaultDataDirectory)
}

/** The local stack for one command: the running one, or its database and Supabase for as long as the command takes. */
export function attachStack(options: { directory?: string | undefined; note: (line: string) => void }): Promise<Attached> {
  return readStack({ dataDirectory: options.directory, say: options.note })
}

/**
 * What a command over another database takes from the data folder: its secrets, so that keyed hashes and encrypted
 * fields stay the same from one command to the next. Where the folder cannot be written there are none.
 */
export async function localSecrets(directory?: string): Promise<Record<string, string>> {
  try {
    return secretEnvironment(await loadSecrets(dataDirectoryOf(directory)))
  } catch {
    return {}
  }
}
