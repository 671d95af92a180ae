import { setTimeout as delay } from 'node:timers/promises'
import { CaretakerError } from '../../lib/platform/errors.ts'
import { type LocalPostgres, type LocalPostgresOptions, startPostgres } from '../../local/postgres.ts'

/**
 * Starts a server on the port that it had before. While it is down, the system may give its port to another program of this machine, for a
 * connection mostly, which keeps it for a minute.
 */
export async function startAgain(options: LocalPostgresOptions & { port: number }): Promise<LocalPostgres> {
  for (let tries = 0; ; tries++)
    try {
      return await startPostgres(options)
    } catch (error) {
      if (!(error instanceof CaretakerError && /Address already in use/.test(error.detail)) || tries === 90) throw error
      await delay(1_000)
    }
}
