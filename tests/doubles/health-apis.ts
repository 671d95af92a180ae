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
  MAKE_API_TOKEN: 'make-token-of-the-test',
  MAKE_COM_WEBHOOK_URL: 'https://hook.eu9.make.com/abc',
  N8N_WEBHOOK_URL: 'https://n8n.test/webhook/abc',
  STACK_PROJECT_ID: 'b0a1-of-the-project',
  STACK_SECRET_SERVER_KEY: 'ssk_of_the_test',
  WEBFLOW_API_TOKEN: 'webflow-token-of-the-test',
  SENTRY_DSN: 'https://publickeyofthetest@sentry.test/7',
  SUPABASE_URL: 'https://project.supabase.test',
  SUPABASE_SERVICE_ROLE_KEY: 'service-key-of-the-test',
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
    http.get('https://eu9.make.com/api/v2/users/me', guarded(header('authorization', `Token ${healthKeys.MAKE_API_TOKEN}`))),
    http.get(
      'https://n8n.test/healthz/readiness',
      guarded(() => true),
    ),
    http.get(
      'https://api.stack-auth.com/api/v1/projects/current',
      guarded(
        (request) =>
          header('x-stack-access-type', 'server')(request) &&
          header('x-stack-project-id', healthKeys.STACK_PROJECT_ID)(request) &&
          header('x-stack-secret-server-key', healthKeys.STACK_SECRET_SERVER_KEY)(request),
      ),
    ),
    http.get('https://api.webflow.com/v2/token/introspect', guarded(header('authorization', `Bearer ${healthKeys.WEBFLOW_API_TOKEN}`))),
    http.post('https://sentry.test/api/7/envelope/', guarded(isClientReport)),
    http.post('https://project.supabase.test/realtime/v1/api/broadcast', guarded(isBroadcast)),
    http.get(
      'https://redis.upstash.test/ping',
      guarded(header('authorization', `Bearer ${healthKeys.UPSTASH_REDIS_REST_TOKEN}`), () => ({ result: state.pong })),
    ),
  ]
}

/** An envelope with one client report of nothing: what becomes no event. */
async function isClientReport(request: Request): Promise<boolean> {
  const key = new URL(request.url).searchParams.get('sentry_key')
  const [envelope, item, report] = (await request.text()).split('\n').map((line) => JSON.parse(line) as Record<string, unknown>)
  return (
    key === 'publickeyofthetest' &&
    request.headers.get('content-type') === 'application/x-sentry-envelope' &&
    envelope !== undefined &&
    item?.type === 'client_report' &&
    typeof report?.timestamp === 'number' &&
    JSON.stringify(report.discarded_events) === '[]'
  )
}

async function isBroadcast(request: Request): Promise<boolean> {
  const { messages } = (await request.json()) as { messages?: { topic: string; event: string; payload: object }[] }
  return (
    request.headers.get('apikey') === healthKeys.SUPABASE_SERVICE_ROLE_KEY &&
    messages?.length === 1 &&
    JSON.stringify(messages[0]?.payload) === '{}' &&
    messages[0]?.topic !== 'realtime'
  )
}
