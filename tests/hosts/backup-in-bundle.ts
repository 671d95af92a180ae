import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { generateX25519Identity, identityToRecipient } from 'age-encryption'
import { expect } from 'vitest'
import { call } from './tools.ts'

/**
 * Fires the backup through the bundled `cron` and runs it in the bundled `worker`, against a real database. It is the
 * one job that reads files beside its code (pg_dump's program and WebAssembly), so it shows whether they were shipped.
 */
export async function backUpThroughBundles(
  functions: Record<'cron' | 'worker', { file: string; cwd: string }>,
  databaseUrl: string,
): Promise<void> {
  const store = await mkdtemp(join(tmpdir(), 'caretaker-store-'))
  try {
    const secret = 'a-secret-of-twenty-eight-chars'
    const env = {
      DATABASE_URL: databaseUrl,
      CRON_SECRET: secret,
      BACKUP_STORE: `file://${store}`,
      BACKUP_RECIPIENTS: await identityToRecipient(await generateX25519Identity()),
    }
    const headers = { authorization: `Bearer ${secret}` }
    const [claimed] = await call(
      functions.cron.file,
      functions.cron.cwd,
      [{ method: 'POST', url: 'https://caretaker.example/api/cron/backup', headers }],
      env,
    )
    expect(JSON.parse(claimed?.body ?? '')).toMatchObject({ job: 'backup', claimed: true })
    const [worked] = await call(
      functions.worker.file,
      functions.worker.cwd,
      [{ method: 'POST', url: 'https://caretaker.example/api/worker', headers }],
      env,
    )
    // Beside it what the clock found waiting.
    expect(JSON.parse(worked?.body ?? '')).toMatchObject({ failed: 0, handedOver: 0, more: false })
    const stored = await readdir(store, { recursive: true })
    expect(stored.filter((name) => /manifest/.test(name))).not.toEqual([])
  } finally {
    await rm(store, { recursive: true, force: true })
  }
}
