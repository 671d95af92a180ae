import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    // The default on two cores is one; much of the time is waiting for heartbeats, locks and the disk.
    maxWorkers: 3,
    // On a machine that others keep busy a test may fail for its neighbours' sake: there it is tried once more, and vitest says that it was.
    retry: process.env.CI === 'true' ? 1 : 0,
    projects: [
      {
        test: {
          name: 'fast',
          include: ['tests/**/*.test.ts'],
          exclude: ['tests/**/*.long.test.ts', 'tests/**/*.host.test.ts', 'tests/**/*.browser.test.ts'],
          globalSetup: ['tests/support/global-setup.ts'],
          setupFiles: ['tests/support/setup.ts'],
          testTimeout: 30_000,
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          name: 'long',
          include: ['tests/**/*.long.test.ts'],
          globalSetup: ['tests/support/global-setup.ts'],
          setupFiles: ['tests/support/setup.ts'],
          testTimeout: 300_000,
          hookTimeout: 120_000,
        },
      },
    ],
  },
})
