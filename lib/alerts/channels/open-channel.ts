import { nearest } from '../../config/index.ts'
import type { Context } from '../../platform/context.ts'
import type { Env } from '../../platform/env.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { environmentCipher } from '../../platform/field-cipher.ts'
import { namedSecrets } from '../../platform/named-secrets.ts'
import { parseWebhookSecrets } from '../../platform/standard-webhooks.ts'
import type { Channel } from './channel.ts'
import { channelKind } from './kinds.ts'
import { channelNames } from './names.ts'

/**
 * The channel of that name, with the address and keys it takes.
 * @throws {CaretakerError} `not_found` with the nearest name; `not_configured` naming the setting that is missing
 */
export async function openChannel(ctx: Pick<Context, 'config' | 'env'>, name: string): Promise<Channel> {
  const names = channelNames(ctx)
  if (!names.includes(name)) {
    const near = nearest(name, names)
    throw new CaretakerError(
      'not_found',
      `The policy has no channel "${name.slice(0, 60)}" (alerts.channels)${near === undefined ? '.' : `; did you mean "${near}"?`}`,
    )
  }
  const policy = ctx.config.alerts?.channels?.[name] ?? {}
  const kind = channelKind(ctx.config, name)
  switch (kind) {
    case 'slack':
      return (await import('./slack.ts')).slackChannel(name, setting(ctx.env, name, 'SLACK_WEBHOOK_URL'))
    case 'pagerduty': {
      const routingKey = setting(ctx.env, name, 'PAGERDUTY_ROUTING_KEY')
      return (await import('./pagerduty.ts')).pagerDutyChannel(name, { routingKey, region: policy.region ?? 'us' })
    }
    case 'opsgenie': {
      const key = setting(ctx.env, name, 'OPSGENIE_API_KEY')
      const { url, allowPrivate } = policy
      return (await import('./opsgenie.ts')).opsgenieChannel(name, { key, url, allowPrivate: allowPrivate === true })
    }
    case 'email':
      return (await import('./email.ts')).emailChannel(name, policy.to ?? [])
    default: {
      const url = policy.url ?? setting(ctx.env, name, undefined)
      const keys = parseWebhookSecrets(channelSecret(ctx.env, name), `the secret of the channel "${name}"`)
      return (await import('./webhook.ts')).webhookChannel(name, { url, keys, allowPrivate: policy.allowPrivate === true })
    }
  }
}

/** What ALERT_CHANNEL_SECRETS says of the channel, else the variable of its kind. */
function setting(env: Env, name: string, fallback: 'SLACK_WEBHOOK_URL' | 'PAGERDUTY_ROUTING_KEY' | 'OPSGENIE_API_KEY' | undefined): string {
  const [named] = namedSecrets(env.ALERT_CHANNEL_SECRETS, 'ALERT_CHANNEL_SECRETS', name)
  const found = named ?? (fallback === undefined ? undefined : env[fallback])
  if (found === undefined)
    throw new CaretakerError(
      'not_configured',
      `The channel "${name}" needs ${fallback === undefined ? '' : `${fallback}, or `}an entry ${name}=… in ALERT_CHANNEL_SECRETS, which is not set.`,
    )
  return found
}

/**
 * What the messages of a generic webhook are signed with, as its receiver is given it. It is derived, so that each channel has another.
 * @throws {CaretakerError} `not_configured` without ENCRYPTION_KEY
 */
export function channelSecret(env: Env, name: string): string {
  const cipher = environmentCipher(env, 'Signing for channels')
  const halves = ['first', 'second'].map((half) => cipher.tag(`${half} half of the secret of a channel`, name))
  return `whsec_${Buffer.concat(halves).toString('base64')}`
}
