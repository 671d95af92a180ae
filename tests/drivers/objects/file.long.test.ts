import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { expect, it } from 'vitest'
import { openObjectStore } from '../../../lib/drivers/objects/index.ts'
import { readEnv } from '../../../lib/platform/env.ts'
import { read } from '../../conformance/objects.ts'

it('shows whole objects only, whenever the writer is killed', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'caretaker-objects-'))
  const url = String(pathToFileURL(directory))
  const store = await openObjectStore(url, readEnv({}))
  let seen = 0
  for (let kill = 0; kill < 40; kill++) {
    const writer = spawn(process.execPath, [fileURLToPath(new URL('../../support/put-forever.child.ts', import.meta.url)), url], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    // Two of the first three are left, however slow the disk is.
    for (let rounds = 0; rounds < 3; rounds += ((await once(writer.stdout, 'data')) as [Buffer])[0].length);
    await delay(Math.random() * 60)
    const ended = once(writer, 'exit')
    writer.kill('SIGKILL')
    await ended
    for await (const info of store.list('')) {
      const bytes = await read(store, info.key)
      expect(bytes).toHaveLength(info.bytes)
      expect(info.key.endsWith(createHash('sha256').update(bytes).digest('hex')), 'a torn object').toBe(true)
      await store.delete(info.key)
      seen++
    }
  }
  expect(seen).toBeGreaterThan(40)
  await rm(directory, { recursive: true })
})
