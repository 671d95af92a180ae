import type { WebhookEvent } from '../config/index.ts'
import type { Context } from '../platform/context.ts'

export interface CurrentObject {
  /** As the provider has it now; null when it is gone. */
  object: Record<string, unknown> | null
  /** An event up to here is older than this. */
  position: number
}

/**
 * Looks up what an event is about. Undefined where it cannot be: no key is set, or the provider has no address for it.
 * @throws {CaretakerError} `upstream_failed`: the attempt counts as failed and is repeated
 */
export type FetchCurrent = (ctx: Context, source: string, event: WebhookEvent) => Promise<CurrentObject | undefined>
