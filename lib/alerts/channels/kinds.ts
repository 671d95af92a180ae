import type { Policy } from '../../config/index.ts'

export const channelKinds = ['slack', 'email', 'pagerduty', 'opsgenie', 'webhook'] as const
export type ChannelKind = (typeof channelKinds)[number]

/** What a channel is: what the policy says, or its name where that is a kind. */
export function channelKind(config: Pick<Policy, 'alerts'>, name: string): ChannelKind | undefined {
  const listed = config.alerts?.channels
  const policy = listed !== undefined && Object.hasOwn(listed, name) ? listed[name] : undefined
  if (listed !== undefined && policy === undefined) return undefined
  return policy?.kind ?? channelKinds.find((kind) => kind === name)
}
