import { readFile } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import { envExample, readEnv, requireEnv, variables } from '../../lib/platform/env.ts'
import { CaretakerError } from '../../lib/platform/errors.ts'
import fc from '../support/fast-check.ts'

function refusal(source: Record<string, string>): CaretakerError {
  try {
    readEnv(source)
  } catch (error) {
    if (error instanceof CaretakerError) return error
  }
  return expect.unreachable('was accepted')
}

describe('readEnv', () => {
  it('takes nothing for an environment, with the defaults', () => {
    expect(readEnv({})).toEqual({ DATABASE_POOL_MAX: 5, LOG_LEVEL: 'info' })
  })

  it('takes an empty or blank variable for an absent one', () => {
    expect(readEnv({ DATABASE_URL: '', CRON_SECRET: '  ', LOG_LEVEL: '', DATABASE_POOL_MAX: '' })).toEqual(readEnv({}))
  })

  it('trims, and converts', () => {
    expect(readEnv({ DATABASE_POOL_MAX: ' 12 ', DATABASE_URL: ' postgres://a:b@c/d\n' })).toMatchObject({
      DATABASE_POOL_MAX: 12,
      DATABASE_URL: 'postgres://a:b@c/d',
    })
  })

  it('reads other names of a variable, the first that is set', () => {
    expect(readEnv({ SUPABASE_DB_URL: 'postgres://a/b' }).DATABASE_URL).toBe('postgres://a/b')
    expect(readEnv({ SUPABASE_DB_URL: 'postgres://a/b', DATABASE_URL: 'postgres://c/d' }).DATABASE_URL).toBe('postgres://c/d')
    expect(readEnv({ SUPABASE_DB_URL: 'postgres://a/b', DATABASE_URL: '' }).DATABASE_URL).toBe('postgres://a/b')
    expect(refusal({ SUPABASE_DB_URL: 'mysql://a/b' }).issues.map((issue) => issue.path)).toEqual(['SUPABASE_DB_URL'])
  })

  it('names every bad variable at once, and what was expected', () => {
    const error = refusal({
      DATABASE_URL: 'mysql://x',
      ENCRYPTION_KEY: 'abc',
      CRON_SECRET: 'short',
      SENTRY_DSN: 'https://sentry.io',
      LOG_LEVEL: 'loud',
      DATABASE_POOL_MAX: '0',
    })
    expect(error.code).toBe('env_invalid')
    expect(Object.fromEntries(error.issues.map((issue) => [issue.path, issue.message]))).toEqual({
      DATABASE_URL: 'expected postgres://USER:PASSWORD@HOST:PORT/DATABASE',
      ENCRYPTION_KEY: 'expected exactly 64 hexadecimal digits (openssl rand -hex 32)',
      CRON_SECRET: 'expected at least 16 characters',
      SENTRY_DSN: 'expected https://KEY@HOST/PROJECT',
      LOG_LEVEL: 'expected trace, debug, info, warn, error, fatal, silent',
      DATABASE_POOL_MAX: 'expected a whole number from 1 to 99999',
    })
    for (const { path, message } of error.issues) expect(error.detail).toContain(`${path}: ${message}`)
  })

  it('never repeats a value', () => {
    const names = Object.keys(variables)
    fc.assert(
      fc.property(
        fc.constantFrom(...names),
        fc.string({ minLength: 4 }).filter((value) => value.trim().length >= 4),
        (name, value) => {
          const marked = `§${value}§`
          try {
            readEnv({ [name]: marked })
          } catch (error) {
            expect(error).toMatchObject({ code: 'env_invalid', issues: [{ path: name }] })
            expect(`${String(error)}${JSON.stringify(error)}`).not.toContain(marked.trim())
          }
        },
      ),
      { numRuns: 500 },
    )
  })

  it.each([
    ['SENTRY_DSN', 'https://abc@o1.ingest.sentry.io/42'],
    ['SENTRY_DSN', 'http://abc@sentry.internal:9000/path/42'],
    ['DATABASE_URL', 'postgresql://u:p%40@[::1]:5432/db?sslmode=require'],
    ['ENCRYPTION_KEY', 'Ab'.repeat(32)],
    ['LOG_LEVEL', 'silent'],
  ])('accepts %s=%s', (name, value) => {
    expect(readEnv({ [name]: value })).toMatchObject({ [name]: value })
  })
})

describe('requireEnv', () => {
  it('gives the variable, or names it and what needs it', () => {
    const env = readEnv({ S3_REGION: 'auto' })
    expect(requireEnv(env, 'S3_REGION', 'A store')).toBe('auto')
    expect(() => requireEnv(env, 'S3_ENDPOINT', 'A store')).toThrow(
      expect.objectContaining({ code: 'not_configured', detail: 'A store needs S3_ENDPOINT, which is not set.' }),
    )
  })
})

describe('.env.example', () => {
  it('is what `npm run env:example` writes', async () => {
    expect(await readFile(new URL('../../.env.example', import.meta.url), 'utf8')).toBe(envExample())
  })

  it('names every variable, shows no secret, and can be used as it is', () => {
    const lines = envExample().split('\n')
    for (const name of Object.keys(variables))
      expect(
        lines.filter((line) => line === `# ${name}=` || line.startsWith(`${name}=`)),
        name,
      ).toHaveLength(1)
    const values = Object.fromEntries(lines.filter((line) => /^[A-Z]/.test(line)).map((line) => line.split('=', 2) as [string, string]))
    expect(readEnv(values)).toEqual(readEnv({}))
  })
})
