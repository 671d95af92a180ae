import { durationMs, nearest, type Policy, type SubscriberPolicy } from '../../config/index.ts'
import type { Env } from '../../platform/env.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { environmentCipher } from '../../platform/field-cipher.ts'
import { namedSecrets } from '../../platform/named-secrets.ts'
import { parseWebhookSecrets, type WebhookKey } from '../../platform/standard-webhooks.ts'

const defaultTimeoutMs = 15_000

export interface Subscriber {
  name: string
  /** A secret where it comes from the environment: never shown. */
  url: string
  keys: readonly WebhookKey[]
  timeoutMs: number
  allowPrivate: boolean
  policy: SubscriberPolicy
}

/** The names of the subscribers that want events of `type`. */
export function subscribersOf(config: Policy, type: string): string[] {
  return Object.entries(config.webhooks?.subscribers ?? {})
    .filter(([, { events }]) => events.some((pattern) => wants(pattern, type)))
    .map(([name]) => name)
}

function wants(pattern: string, type: string): boolean {
  return pattern === '*' || pattern === type || (pattern.endsWith('.*') && type.startsWith(pattern.slice(0, -1)))
}

/** @throws {CaretakerError} `not_found`, with the nearest name */
export function subscriberPolicy(config: Policy, name: string): SubscriberPolicy {
  const known = config.webhooks?.subscribers ?? {}
  const policy = Object.hasOwn(known, name) ? known[name] : undefined
  if (policy !== undefined) return policy
  const near = nearest(name, Object.keys(known))
  throw new CaretakerError(
    'not_found',
    `The policy has no subscriber "${name.slice(0, 60)}" (webhooks.subscribers)${near === undefined ? '.' : `; did you mean "${near}"?`}`,
  )
}

/**
 * One subscriber, with its address and what its messages are signed with.
 * @throws {CaretakerError} `not_found` for a name the policy does not have; `not_configured` for an address or secret that is not set
 */
export function findSubscriber({ config, env }: { config: Policy; env: Env }, name: string): Subscriber {
  const policy = subscriberPolicy(config, name)
  const url = typeof policy.url === 'string' ? policy.url : env[policy.url.env]
  if (url === undefined && typeof policy.url !== 'string')
    throw new CaretakerError('not_configured', `The subscriber "${name}" needs ${policy.url.env}, which is not set.`)
  return {
    name,
    url: url as string,
    keys: parseWebhookSecrets(subscriberSecret(env, name), `SUBSCRIBER_SECRETS for "${name}"`),
    timeoutMs: policy.timeout === undefined ? defaultTimeoutMs : durationMs(policy.timeout),
    allowPrivate: policy.allowPrivate === true,
    policy,
  }
}

/**
 * What the messages of a subscriber are signed with, as its receiver is given it: `whsec_…`, several separated by commas. Without a setting of
 * its own it is derived, so that each has another and none knows how to sign for another.
 * @throws {CaretakerError} `not_configured` without ENCRYPTION_KEY
 */
export function subscriberSecret(env: Env, name: string): string {
  const set = namedSecrets(env.SUBSCRIBER_SECRETS, 'SUBSCRIBER_SECRETS', name)
  if (set.length > 0) return set.join(',')
  const cipher = environmentCipher(env, 'Signing for subscribers')
  const halves = ['first', 'second'].map((half) => cipher.tag(`${half} half of the secret of a subscriber`, name))
  return `whsec_${Buffer.concat(halves).toString('base64')}`
}
