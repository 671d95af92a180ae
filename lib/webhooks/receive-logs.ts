import type { Context } from '../platform/context.ts'
import { checkForm } from './check-form.ts'
import type { WebhookRequest } from './source.ts'

export interface LogReceipt {
  lines: number
  /** The batch was counted before. */
  duplicate: boolean
}

const mediaTypes = ['application/json', 'application/x-ndjson', 'application/ndjson', 'text/plain']

/**
 * Counts what a host's log drain sends, by the minute; the lines themselves are not kept. Vercel signs the body
 * (https://vercel.com/docs/drains/security), Netlify presents the secret as a bearer token.
 * @throws {CaretakerError} `not_configured`, `unsupported_media_type`, `signature_invalid`, `bad_request`, `database_unavailable`
 */
export async function receiveLogs(ctx: Context, request: WebhookRequest): Promise<LogReceipt> {
  checkForm(request, { mediaTypes })
  // Other webhooks' cold starts do without it.
  return (await import('./log-drain.ts')).countLogs(ctx, request)
}
