import { HttpResponse, http } from 'msw'

export interface SupabaseState {
  url: string
  key: string
  reads: Record<'auth' | 'storage' | 'rest', number>
  failWith: Partial<Record<'auth' | 'storage' | 'rest', number>>
}

export function supabaseState(): SupabaseState {
  return {
    url: 'https://project.supabase.test',
    key: 'service-role-key-of-the-test',
    reads: { auth: 0, storage: 0, rest: 0 },
    failWith: {},
  }
}

/** The three calls that say whether a Supabase project answers; each wants the service key in both headers. */
export function supabaseApi(state: SupabaseState) {
  const answer =
    (part: 'auth' | 'storage' | 'rest', body: object) =>
    ({ request }: { request: Request }) => {
      if (request.headers.get('apikey') !== state.key || request.headers.get('authorization') !== `Bearer ${state.key}`)
        return HttpResponse.json({ message: 'Invalid API key' }, { status: 401 })
      state.reads[part]++
      const status = state.failWith[part]
      return status === undefined ? HttpResponse.json(body) : HttpResponse.json({ message: 'no' }, { status })
    }
  return [
    http.get(
      `${state.url}/auth/v1/health`,
      answer('auth', { name: 'GoTrue', version: 'v2.170.0', description: 'GoTrue is a user registration and authentication API' }),
    ),
    http.get(`${state.url}/storage/v1/bucket`, answer('storage', [])),
    http.get(`${state.url}/rest/v1/`, answer('rest', { swagger: '2.0' })),
  ]
}
