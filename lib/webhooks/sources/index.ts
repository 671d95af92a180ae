import { nearest, type Policy } from '../../config/index.ts'
import { CaretakerError } from '../../platform/errors.ts'
import type { WebhookSource } from '../source.ts'

/** Loaded when the first request for it comes: a cold start reads the code of one provider. */
const loaders: Record<string, () => Promise<WebhookSource>> = {
  stripe: async () => (await import('./stripe.ts')).stripe,
  sms: async () => (await import('./twilio.ts')).twilioMessages,
  'sms/status': async () => (await import('./twilio.ts')).twilioStatus,
  email: async () => (await import('./sendgrid.ts')).sendgrid,
}

/** What was loaded: asking the module loader again costs as much as a tenth of taking an event. */
const loaded = new Map<string, WebhookSource>()

/**
 * The source that answers under `/api/webhooks/{path}`: a built-in one, or one of `webhooks.sources`.
 * @throws {CaretakerError} `not_found`, with the nearest name
 */
export async function openSource(config: Policy, path: string): Promise<WebhookSource> {
  const known = loaded.get(path)
  if (known !== undefined) return known
  const load = Object.hasOwn(loaders, path) ? loaders[path] : undefined
  if (load !== undefined) {
    const source = await load()
    loaded.set(path, source)
    return source
  }
  const own = config.webhooks?.sources ?? {}
  const policy = Object.hasOwn(own, path) ? own[path] : undefined
  if (policy?.kind === 'github') return (await import('./github.ts')).githubSource(path, policy)
  if (policy !== undefined) return (await import('./standard.ts')).standardSource(path, policy)
  const near = nearest(path, [...Object.keys(loaders), ...Object.keys(own)])
  throw new CaretakerError('not_found', `There is no webhook source of that name.${near === undefined ? '' : ` Did you mean "${near}"?`}`)
}
