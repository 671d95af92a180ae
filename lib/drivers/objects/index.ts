import type { Env } from '../../platform/env.ts'
import { CaretakerError } from '../../platform/errors.ts'
import type { ObjectStore } from '../../platform/objects.ts'

/**
 * The store behind `file:///DIR`, `s3://BUCKET[/PREFIX]` or `supabase://BUCKET[/PREFIX]`. Each driver is loaded only
 * when its scheme is asked for, and nothing is connected to before the first call.
 * @throws {CaretakerError} `invalid_input` for another scheme or a malformed URL; `not_configured` where a setting of
 * the store is missing.
 */
export async function openObjectStore(url: string, env: Env): Promise<ObjectStore> {
  const scheme = /^([a-z0-9]+):\/\//.exec(url)?.[1]
  switch (scheme) {
    case 'file':
      return (await import('./file.ts')).openFileStore(url)
    case 's3':
      return (await import('./s3.ts')).openS3Store(url, env)
    case 'supabase':
      return (await import('./supabase.ts')).openSupabaseStore(url, env)
    default:
      throw new CaretakerError(
        'invalid_input',
        `store: found ${scheme === undefined ? 'no scheme' : `"${scheme}://"`}; expected file:///DIR, s3://BUCKET/PREFIX or supabase://BUCKET.`,
      )
  }
}
