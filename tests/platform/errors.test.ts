import { readFile } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import { statusOf } from '../../lib/http/problem.ts'
import { CaretakerError, errorCodes, hasCode, sqlState } from '../../lib/platform/errors.ts'

describe('docs/errors.md', () => {
  it('lists every code with its status and meaning, in the order of the source, and says what to do', async () => {
    const page = await readFile(new URL('../../docs/errors.md', import.meta.url), 'utf8')
    const rows = [...page.matchAll(/^\| `(\w+)` \| (\d+) \| (.+?) \| (.+?) \|$/gm)].map(([, code, status, meaning]) => [
      code,
      Number(status),
      meaning,
    ])
    expect(rows).toEqual(Object.entries(errorCodes).map(([code, meaning]) => [code, statusOf[code as keyof typeof statusOf], meaning]))
  })
})

describe('CaretakerError', () => {
  it('carries its code, what it says, and its cause', () => {
    const cause = new Error('inner')
    const error = new CaretakerError('invalid_input', 'limit: found 0.', {
      cause,
      issues: [{ path: 'limit', message: 'found 0' }],
      retryAfterSeconds: 3,
    })
    expect(String(error)).toBe('CaretakerError: invalid_input: limit: found 0.')
    expect(error).toMatchObject({ code: 'invalid_input', detail: 'limit: found 0.', cause, retryAfterSeconds: 3 })
    expect(hasCode(error, 'invalid_input')).toBe(true)
    expect(hasCode(error, 'internal')).toBe(false)
    expect(hasCode(new Error('invalid_input'), 'invalid_input')).toBe(false)
    expect('cause' in new CaretakerError('internal', 'x')).toBe(false)
  })
})

describe('sqlState', () => {
  it.each([
    ['23505', '23505'],
    ['P0001', 'P0001'],
    ['HV00A', 'HV00A'],
    ['EPIPE', undefined],
    ['EPERM', undefined],
    ['ECONNRESET', undefined],
    ['23505 ', undefined],
    [23505, undefined],
  ])('takes %j for %j', (code, state) => {
    expect(sqlState(Object.assign(new Error('x'), { code }))).toBe(state)
  })

  it('takes nothing for one that has none', () => {
    for (const value of [null, undefined, 'x', {}, new Error('x')]) expect(sqlState(value)).toBeUndefined()
  })
})
