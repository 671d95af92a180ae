import { CaretakerError } from '../lib/platform/errors.ts'
import { parseWebhookSecrets, verifyWebhook } from '../lib/platform/standard-webhooks.ts'

export interface ExampleApp {
  name: string
  /** APP_WEBHOOK_SECRET, which Caretaker signs its calls with. */
  secret: string
  now: () => Date
}

export function isAppPath(pathname: string): boolean {
  return pathname === '/app' || pathname.startsWith('/app/')
}

/**
 * The looked-after app itself, as far as the stack has one: pages whose answer says that it is up, and, under every path,
 * what Caretaker's signed calls are for. It verifies them as an app must, and says that it took one.
 */
export async function answerAsApp(request: Request, app: ExampleApp): Promise<Response> {
  switch (request.method) {
    case 'GET':
    case 'HEAD': {
      const html = `<!doctype html><html lang="en"><meta charset="utf-8"><title>${app.name}</title><p>The example app "${app.name}" is up.</p></html>\n`
      return new Response(request.method === 'HEAD' ? null : html, { headers: { 'content-type': 'text/html; charset=utf-8' } })
    }
    case 'POST':
      try {
        verifyWebhook(
          parseWebhookSecrets(app.secret, 'APP_WEBHOOK_SECRET'),
          { headers: request.headers, body: new Uint8Array(await request.arrayBuffer()) },
          { now: app.now() },
        )
        return Response.json({ taken: 1 })
      } catch (error) {
        if (error instanceof CaretakerError) return Response.json({ error: error.detail }, { status: 401 })
        throw error
      }
    default:
      return new Response(null, { status: 405, headers: { allow: 'GET, HEAD, POST' } })
  }
}
