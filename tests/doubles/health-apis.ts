import { HttpResponse, http } from 'msw'

/** Third parties as far as the health checks ask them: each accepts one key, and answers with `failWith` when told to. */
export interface HealthApisState {
  failWith?: number
  twilioAccount: string
  sendgridScopes: string[]
  pong: string
}

export const healthKeys = {
  OPENAI_API_KEY: 'sk-openai-of-the-test',
  HUME_API_KEY: 'hume-key-of-the-test',
  MEMBERSTACK_SECRET_KEY: 'sk_memberstack_of_the_test',
  POSTHOG_API_KEY: 'phc_of_the_test',
  TWILIO_ACCOUNT_SID: 'AC42',
  TWILIO_AUTH_TOKEN: 'twilio-token-of-the-test',
  SENDGRID_API_KEY: 'SG.of-the-test',
  GOOGLE_CLIENT_ID: 'client-of-the-test',
  UPSTASH_REDIS_REST_URL: 'https://redis.upstash.test',
  UPSTASH_REDIS_REST_TOKEN: 'upstash-token-of-the-test',
}

export function healthApis(state: HealthApisState) {
  const guarded =
    (accepts: (request: Request) => boolean | Promise<boolean>, body: () => object = () => ({})) =>
    async ({ request }: { request: Request }) => {
      if (!(await accepts(request))) return HttpResponse.json({}, { status: 401 })
      return state.failWith === undefined ? HttpResponse.json(body()) : HttpResponse.json({}, { status: state.failWith })
    }
  const header = (name: string, value: string) => (request: Request) => request.headers.get(name) === value
  const basic = Buffer.from(`${healthKeys.TWILIO_ACCOUNT_SID}:${healthKeys.TWILIO_AUTH_TOKEN}`).toString('base64')
  return [
    http.get('https://api.openai.com/v1/models', guarded(header('authorization', `Bearer ${healthKeys.OPENAI_API_KEY}`))),
    http.get('https://api.hume.ai/v0/tts/voices', guarded(header('x-hume-api-key', healthKeys.HUME_API_KEY))),
    http.get('https://admin.memberstack.com/members', guarded(header('x-api-key', healthKeys.MEMBERSTACK_SECRET_KEY))),
    http.post(
      'https://us.i.posthog.com/flags',
      guarded(async (request) => ((await request.json()) as { api_key?: string }).api_key === healthKeys.POSTHOG_API_KEY),
    ),
    http.get(
      'https://api.twilio.com/2010-04-01/Accounts/AC42.json',
      guarded(header('authorization', `Basic ${basic}`), () => ({ status: state.twilioAccount })),
    ),
    http.get(
      'https://api.sendgrid.com/v3/scopes',
      guarded(header('authorization', `Bearer ${healthKeys.SENDGRID_API_KEY}`), () => ({ scopes: state.sendgridScopes })),
    ),
    http.get(
      'https://accounts.google.com/.well-known/openid-configuration',
      guarded(() => true),
    ),
    http.get(
      'https://redis.upstash.test/ping',
      guarded(header('authorization', `Bearer ${healthKeys.UPSTASH_REDIS_REST_TOKEN}`), () => ({ result: state.pong })),
    ),
  ]
}
