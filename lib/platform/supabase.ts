import type { SupabaseClient } from '@supabase/supabase-js'
import { type Env, requireEnv } from './env.ts'

/**
 * The supabase-js client with the service key, made at first use (280 KB that most requests never need).
 * It keeps no session and refreshes nothing: a function has no browser to come back to.
 */
export function lazySupabase(env: Env, fetch: typeof globalThis.fetch): () => Promise<SupabaseClient> {
  let client: Promise<SupabaseClient> | undefined
  return () => {
    client ??= (async () => {
      const url = requireEnv(env, 'SUPABASE_URL', 'The Supabase client')
      const key = requireEnv(env, 'SUPABASE_SERVICE_ROLE_KEY', 'The Supabase client')
      const { createClient } = await import('@supabase/supabase-js')
      return createClient(url, key, {
        auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false },
        global: { fetch },
      })
    })()
    client.catch(() => {
      client = undefined
    })
    return client
  }
}
