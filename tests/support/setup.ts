import { afterAll, afterEach, beforeAll, beforeEach, expect, vi } from 'vitest'
import { doubles } from './doubles.ts'

// Nothing in a test reaches the internet: a request to anywhere but this machine, and not stood for by a double, fails.
beforeAll(() =>
  doubles.listen({
    onUnhandledFrame({ frame, defaults }) {
      const { request, connection } = frame.data as { request?: Request; connection?: { client: { url: URL } } }
      const url = request?.url ?? String(connection?.client.url)
      if (!['127.0.0.1', 'localhost', '[::1]'].includes(new URL(url).hostname)) defaults.error()
    },
  }),
)
afterEach(() => doubles.resetHandlers())
afterAll(() => doubles.close())

// A message on console.error is a defect that nobody asserted on.
beforeEach(() => {
  vi.spyOn(console, 'error')
})
afterEach(() => {
  expect(vi.mocked(console.error).mock.calls).toEqual([])
  vi.mocked(console.error).mockRestore()
})
