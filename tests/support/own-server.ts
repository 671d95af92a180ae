import { afterAll, beforeAll, inject } from 'vitest'
import { startTestServer, type TestServer } from './test-server.ts'

let own: TestServer | undefined

/**
 * Gives the calling test file a server that no other uses. Call it before `useTestDatabase`. A replication slot, for one, waits when it is
 * made for every transaction that is open anywhere on its server.
 */
export function useOwnServer(): void {
  beforeAll(async () => {
    own = await startTestServer()
  })
  afterAll(async () => {
    await own?.stop()
    own = undefined
  })
}

/** Of the file's own server, or of the one that the run shares. */
export const serverUrl = (): string => own?.url ?? inject('postgresUrl')
