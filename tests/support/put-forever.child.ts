import { createHash, randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import { openObjectStore } from '../../lib/drivers/objects/index.ts'
import { readEnv } from '../../lib/platform/env.ts'

// Run as a process of its own, to be killed: puts objects into the store of its first argument, each under its own hash; a dot for each.
const store = await openObjectStore(process.argv[2] ?? '', readEnv({}))
for (let round = 0; ; round++) {
  const bytes = randomBytes(1 + ((round * 104_729) % 400_000))
  const key = `folder-${round % 7}/${createHash('sha256').update(bytes).digest('hex')}`
  await store.put(key, Readable.from([bytes.subarray(0, 1_000), bytes.subarray(1_000)], { objectMode: false }), {
    ifAbsent: round % 2 === 0,
  })
  if (round % 3 === 0) await store.delete(key)
  process.stdout.write('.')
}
