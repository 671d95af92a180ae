import type { Context } from '../../platform/context.ts'

/** The channels people are told on, by name: those of the policy, else Slack where its address is set. */
export function channelNames({ config, env }: Pick<Context, 'config' | 'env'>): string[] {
  const listed = config.alerts?.channels
  if (listed !== undefined) return Object.keys(listed)
  return env.SLACK_WEBHOOK_URL === undefined ? [] : ['slack']
}
