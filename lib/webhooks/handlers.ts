import type { Policy, WebhookHandler } from '../config/index.ts'
import { sources } from './sources/index.ts'

/** The policy's handlers by event type, for every source: one without any has an empty map. */
export function handlersBySource(config: Policy): Map<string, ReadonlyMap<string, WebhookHandler>> {
  const policies: Record<string, { on?: Record<string, WebhookHandler> | undefined } | undefined> = { ...config.webhooks }
  return new Map([...sources.keys()].map((source) => [source, new Map(Object.entries(policies[source]?.on ?? {}))]))
}
