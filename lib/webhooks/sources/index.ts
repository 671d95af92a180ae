import { nearest, type Policy } from '../../config/index.ts'
import { CaretakerError } from '../../platform/errors.ts'
import type { WebhookSource } from '../source.ts'

/** Loaded when the first request for it comes: a cold start carries the code of one provider. */
const builtIn: Record<string, () => Promise<WebhookSource>> = {
  stripe: async () => (await import('./stripe.ts')).stripe,
}

/**
 * The source that answers under `/api/webhooks/{path}`.
 * @throws {CaretakerError} `not_found`, with the nearest name
 */
export async function openSource(_config: Policy, path: string): Promise<WebhookSource> {
  const load = Object.hasOwn(builtIn, path) ? builtIn[path] : undefined
  if (load !== undefined) return load()
  const near = nearest(path, Object.keys(builtIn))
  throw new CaretakerError('not_found', `There is no webhook source of that name.${near === undefined ? '' : ` Did you mean "${near}"?`}`)
}
