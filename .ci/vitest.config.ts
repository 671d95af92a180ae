import { defineConfig } from 'vitest/config'

// The tests that need the hosts' own tools, other versions of PostgreSQL, or Chromium: `npm install --prefix .ci --ignore-scripts`, then `vitest run --config .ci/vitest.config.ts`.
export default defineConfig({
  root: new URL('..', import.meta.url).pathname,
  test: {
    name: 'hosts',
    include: ['tests/**/*.host.test.ts', 'tests/**/*.browser.test.ts'],
    globalSetup: ['tests/support/global-setup.ts'],
    setupFiles: ['tests/support/setup.ts'],
    env: { HOST_TOOLS: 'required' },
    fileParallelism: false,
    testTimeout: 300_000,
    hookTimeout: 300_000,
  },
})
