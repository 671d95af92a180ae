import { Readable } from 'node:stream'
import { openObjectStore } from '../../lib/drivers/objects/index.ts'
import { readEnv } from '../../lib/platform/env.ts'

// Run as a process of its own, to see its memory: puts and gets an object of that many bytes, prints the peak.
const [url = '', size = '0'] = process.argv.slice(2)
const block = Buffer.alloc(65_536, 7)
const store = await openObjectStore(url, readEnv())
let peakRssBytes = 0
const timer = setInterval(() => {
  peakRssBytes = Math.max(peakRssBytes, process.memoryUsage.rss())
}, 10)
const source = function* () {
  for (let left = Number(size); left > 0; left -= block.length) yield block
}
// As in a job: one signal for all, that outlives every request.
const { signal } = new AbortController()
const { bytes } = await store.put('large', Readable.from(source(), { objectMode: false }), { signal })
let read = 0
for await (const chunk of (await store.get('large', { signal })) ?? []) read += (chunk as Buffer).length
clearInterval(timer)
process.stdout.write(JSON.stringify({ bytes, read, peakRssBytes }))
