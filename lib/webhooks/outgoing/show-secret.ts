import { appendAudit } from '../../platform/audit.ts'
import type { Context } from '../../platform/context.ts'
import { subscriberPolicy, subscriberSecret } from './subscribers.ts'

/**
 * What a subscriber's messages are signed with, to be set at its end. That it was shown is audited.
 * @throws {CaretakerError} `not_found` for a subscriber the policy does not have; `not_configured`
 */
export async function showSubscriberSecret(ctx: Context, name: string): Promise<string> {
  subscriberPolicy(ctx.config, name)
  const secret = subscriberSecret(ctx.env, name)
  await ctx.db.transaction((tx) => appendAudit(tx, ctx, { action: 'webhooks.secret_shown', target: `subscribers/${name}` }))
  return secret
}
