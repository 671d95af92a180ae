import type { ObjectStore } from '../../../lib/platform/objects.ts'

export interface GatedStore extends ObjectStore {
  /** Keys of what was read, in order. */
  read: string[]
  /** Keeps the rows of an object back, from now until they are released. */
  hold(key: string): { asked: Promise<void>; release(): void }
}

/** A store that notes which objects are read, and gives those that are held back only when they are let go. */
export function gatedStore(store: ObjectStore): GatedStore {
  const read: string[] = []
  const gates = new Map<string, { readings: number; ask: () => void; until: Promise<void> }>()
  return {
    ...store,
    read,
    hold(key) {
      const asked = Promise.withResolvers<void>()
      const until = Promise.withResolvers<void>()
      gates.set(key, { readings: 0, ask: asked.resolve, until: until.promise })
      return { asked: asked.promise, release: until.resolve }
    },
    async get(key, options) {
      read.push(key)
      const gate = [...gates].find(([end]) => key.endsWith(end))?.[1]
      // The first reading holds an object against its hash; the second is for its rows.
      if (gate !== undefined && ++gate.readings > 1) {
        gate.ask()
        const ended = Promise.withResolvers<never>()
        options?.signal?.addEventListener('abort', () => ended.reject(options.signal?.reason), { once: true })
        await Promise.race([gate.until, ended.promise])
      }
      return store.get(key, options)
    },
  }
}
