import { appendAudit } from '../platform/audit.ts'
import type { Context } from '../platform/context.ts'
import { CaretakerError } from '../platform/errors.ts'
import { channelSecret, openChannel } from './channels/open-channel.ts'

/**
 * What the messages of a generic webhook are signed with, to be set at its receiver. That it was shown is audited.
 * @throws {CaretakerError} `not_found` for a channel the policy does not have; `invalid_input` for one that is not signed; `not_configured`
 */
export async function showChannelSecret(ctx: Context, name: string): Promise<string> {
  const channel = await openChannel(ctx, name)
  if (channel.kind !== 'webhook')
    throw new CaretakerError('invalid_input', `The channel "${name}" is of the kind ${channel.kind}; only a generic webhook is signed.`)
  const secret = channelSecret(ctx.env, name)
  await ctx.db.transaction((tx) => appendAudit(tx, ctx, { action: 'alerts.secret_shown', target: `channels/${name}` }))
  return secret
}
