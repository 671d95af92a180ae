import type { SupabaseClient } from '@supabase/supabase-js'
import { describe, expect, it } from 'vitest'
import { personalPrefix, removeFiles } from '../../lib/gdpr/storage-files.ts'

describe('personalPrefix', () => {
  it.each([
    ['{id}/', '10', '10/'],
    ['avatars/{id}.', 'b7', 'avatars/b7.'],
    ['{id}/{id}/', '1', '1/1/'],
  ])('puts the person into %s', (prefix, id, path) => {
    expect(personalPrefix(prefix, id)).toBe(path)
  })

  it.each(['', '/', 'voice/', '{id}', 'avatars/{id}', '{id}a/', '{ID}/'])('refuses %j, which would match other people', (prefix) => {
    expect(() => personalPrefix(prefix, '1')).toThrow(expect.objectContaining({ code: 'policy_invalid' }))
  })

  it.each(['', '.', '..', 'a/b', 'a\\b', '../1'])('refuses the id %j as part of a path', (id) => {
    expect(() => personalPrefix('{id}/', id)).toThrow(expect.objectContaining({ code: 'invalid_input' }))
  })
})

describe('removeFiles', () => {
  it('asks in batches, a bucket at a time', async () => {
    const asked: [string, number][] = []
    const storage = {
      from: (bucket: string) => ({
        remove: (paths: string[]) => {
          asked.push([bucket, paths.length])
          return Promise.resolve({ data: [], error: null })
        },
      }),
    }
    const files = [...Array.from({ length: 1_001 }, (_, n) => ({ bucket: 'a', path: `1/${n}` })), { bucket: 'b', path: '1/x' }]
    await removeFiles({ storage } as unknown as SupabaseClient, files)
    expect(asked).toEqual([
      ['a', 500],
      ['a', 500],
      ['a', 1],
      ['b', 1],
    ])
  })
})
