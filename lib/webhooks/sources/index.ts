import type { WebhookSource } from '../source.ts'
import { stripe } from './stripe.ts'

/** By the last part of their path. */
export const sources: ReadonlyMap<string, WebhookSource> = new Map([stripe].map((source) => [source.name, source]))
