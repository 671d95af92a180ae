import { randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import { defineConfig, type PolicyInput } from '../../lib/config/index.ts'
import { fixedClock } from '../../lib/platform/clock.ts'
import type { Context } from '../../lib/platform/context.ts'
import type { Database } from '../../lib/platform/db.ts'
import { readEnv } from '../../lib/platform/env.ts'
import type { ObjectStore } from '../../lib/platform/objects.ts'
import { testContext } from '../support/context.ts'

let made = 0

/** A context of an environment of its own, so that tests over one database do not share snapshots. Its clock stands still; with `policy.health` and the environment of a test. */
export function healthContext(
  db: Database,
  given: { health?: PolicyInput['health']; env?: Record<string, string>; policy?: Partial<PolicyInput>; overrides?: Partial<Context> } = {},
) {
  const clock = fixedClock('2026-11-21T12:00:00Z')
  const ctx = testContext(db, {
    clock,
    config: defineConfig({ app: { name: 'Test' }, ...given.policy, ...(given.health === undefined ? {} : { health: given.health }) }),
    env: readEnv({
      ENCRYPTION_KEY: randomBytes(32).toString('hex'),
      APP_VERSION: '3.2.1',
      CARETAKER_ENVIRONMENT: `test-${++made}`,
      ...given.env,
    }),
    ...given.overrides,
  })
  return Object.assign(ctx, { clock })
}

/** Another instance over the same database: pool, memory and all. `Object.create` gives it an identity of its own. */
export function anotherInstance<C extends Context>(ctx: C): C {
  return { ...ctx, db: Object.assign(Object.create(ctx.db) as Database, {}) }
}

/** An object store in memory, which a test can make misbehave. */
export function memoryStore(): ObjectStore & { objects: Map<string, Buffer>; lies: boolean } {
  const objects = new Map<string, Buffer>()
  const info = (key: string) => ({ key, bytes: objects.get(key)?.length ?? 0, modifiedAt: new Date(0) })
  return {
    url: 'memory:',
    objects,
    lies: false,
    async put(key, body) {
      objects.set(key, Buffer.from(body instanceof Uint8Array ? body : Buffer.concat(await body.toArray())))
      return info(key)
    },
    get(key) {
      const found = objects.get(key)
      return Promise.resolve(found === undefined ? null : Readable.from([this.lies ? Buffer.from('something else') : found]))
    },
    head: (key) => Promise.resolve(objects.has(key) ? info(key) : null),
    async *list(prefix) {
      yield* [...objects.keys()]
        .filter((key) => key.startsWith(prefix))
        .sort()
        .map(info)
    },
    downloadUrl: () => Promise.resolve(null),
    delete(key) {
      objects.delete(key)
      return Promise.resolve()
    },
  }
}
