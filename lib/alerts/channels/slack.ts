import { type Channel, clipped, postJson } from './channel.ts'
import { type Line, lines, title } from './text.ts'

// https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks and .../block-kit: a section holds 3,000 characters;
// about one message a second, and Retry-After where that is too much.
const longestSection = 3_000
const longestValue = 1_000

const colours = { bad: '#c0392b', good: '#2e7d32', plain: '#5f6b7a' }

export function slackChannel(name: string, url: string): Channel {
  return {
    name,
    kind: 'slack',
    paceMs: 1_000,
    send: (ctx, message) => {
      const body = lines(message).map(written).join('\n')
      const colour =
        message.kind === 'resolved' || message.kind === 'watching'
          ? colours.good
          : message.kind === 'acknowledged' || message.kind === 'update'
            ? colours.plain
            : colours.bad
      return postJson(ctx, url, {
        // What a notification on a phone shows, and a reader without blocks.
        text: clipped(escaped(title(message)), longestSection),
        attachments: [
          { color: colour, blocks: [{ type: 'section', text: { type: 'mrkdwn', text: clipped(body, longestSection), verbatim: true } }] },
        ],
      })
    },
  }
}

function written({ name, value, href }: Line): string {
  const text = escaped(clipped(value, longestValue))
  // In <address|text> a bar and a bracket would end what they stand in.
  return `*${name}:* ${href === undefined ? text : `<${escaped(href).replaceAll('|', '%7C')}|${text.replaceAll('|', '/')}>`}`
}

/** The three characters that Slack reads as markup of its own: a message can mention nobody and link nowhere. */
function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}
