import { describe, expect, it } from 'vitest'
import { openObjectStore } from '../../../lib/drivers/objects/index.ts'
import { readEnv } from '../../../lib/platform/env.ts'

describe('openObjectStore', () => {
  const env = readEnv({
    S3_ENDPOINT: 'http://127.0.0.1:9',
    S3_ACCESS_KEY_ID: 'access-key-id',
    S3_SECRET_ACCESS_KEY: 'secret-access-key',
    SUPABASE_URL: 'http://127.0.0.1:9',
    SUPABASE_SERVICE_ROLE_KEY: 'service-role-key',
  })

  it.each(['file:///tmp/none', 's3://bucket/prefix', 'supabase://bucket/prefix'])('opens %s without touching it', async (url) => {
    expect((await openObjectStore(url, env)).url).toBe(url)
  })

  it.each(['s3://bucket', 'supabase://bucket'])('says what %s needs', async (url) => {
    await expect(openObjectStore(url, readEnv({}))).rejects.toMatchObject({
      code: 'not_configured',
      detail: expect.stringContaining('is not set'),
    })
  })

  it.each(['', 'bucket', 'gs://bucket', 'https://host/bucket', '/tmp/x', 's3:bucket'])('refuses %j', async (url) => {
    await expect(openObjectStore(url, env)).rejects.toMatchObject({
      code: 'invalid_input',
      detail: expect.stringContaining('expected file:///DIR'),
    })
  })
})
