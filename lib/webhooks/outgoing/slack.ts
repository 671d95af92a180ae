import type { OutgoingEvent } from '../../config/index.ts'

const longestText = 3_000

/** What an incoming webhook of Slack takes: the type, and its data as lines. https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks */
export function slackMessage(event: OutgoingEvent): { text: string } {
  const lines = Object.entries(event.data).map(([name, value]) => `• ${escaped(name)}: ${escaped(show(value))}`)
  return { text: [`*${escaped(event.type)}*`, ...lines].join('\n').slice(0, longestText) }
}

function show(value: unknown): string {
  return typeof value === 'string' ? value : (JSON.stringify(value) ?? '')
}

/** The three characters that Slack reads as markup of its own: an event can mention nobody and link nowhere. */
function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}
