import { randomBytes } from 'node:crypto'
import { hasCode } from '../../platform/errors.ts'
import type { ObjectStore } from '../../platform/objects.ts'
import { type Checker, healthy, notConfigured, unhealthy } from '../checker.ts'

/** The object store takes a small object, returns the same bytes, and deletes it. */
export const objectStore: Checker = async (ctx, _check, signal) => {
  let store: ObjectStore
  try {
    store = await ctx.objects()
  } catch (error) {
    if (hasCode(error, 'not_configured')) return notConfigured
    throw error
  }
  // A key and content of its own: two probes at once must not read or delete each other's.
  const content = randomBytes(32)
  const key = `health/probe-${content.toString('hex', 0, 8)}`
  let removed = false
  try {
    await store.put(key, content, { contentType: 'application/octet-stream', signal })
    const body = await store.get(key, { signal })
    if (body === null || !content.equals(Buffer.concat(await body.toArray({ signal })))) return unhealthy('write_failed')
    await store.delete(key)
    removed = true
    return (await store.head(key)) === null ? healthy() : unhealthy('write_failed')
  } finally {
    if (!removed) await store.delete(key).catch(() => undefined)
  }
}
