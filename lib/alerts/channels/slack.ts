import { type Channel, clipped, oneLine, postJson } from './channel.ts'
import { type Line, lines, title } from './text.ts'

// https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks and .../block-kit: a section holds 3,000 characters;
// about one message a second, and Retry-After where that is too much.
const longestSection = 3_000
/** Escaped it may be five times as long. */
const longestTitle = 500
/** How much of each line is left, where all of them together are too long: the last ones say where to look. */
const valueLengths = [1_000, 400, 150, 40]

const colours = { bad: '#c0392b', good: '#2e7d32', plain: '#5f6b7a' }

export function slackChannel(name: string, url: string): Channel {
  return {
    name,
    kind: 'slack',
    paceMs: 1_000,
    send: (ctx, message) => {
      const body = section(lines(message))
      const plain = message.kind === 'acknowledged' || message.kind === 'update' || message.payload.partOf !== undefined
      const good = message.kind === 'resolved' || message.kind === 'watching'
      const colour = plain ? colours.plain : good ? colours.good : colours.bad
      return postJson(ctx, url, {
        // What a notification on a phone shows, and a reader without blocks.
        text: escaped(clipped(oneLine(title(message)), longestTitle)),
        attachments: [{ color: colour, blocks: [{ type: 'section', text: { type: 'mrkdwn', text: body, verbatim: true } }] }],
      })
    },
  }
}

/** All lines, each as long as there is room for. Nothing is cut where markup would be cut with it. */
function section(all: readonly Line[]): string {
  for (const length of valueLengths) {
    const body = all.map((line) => written(line, length)).join('\n')
    if (body.length <= longestSection) return body
  }
  // Only addresses of that length come to this: they are left out from the end.
  const fitting = all.map((line) => written(line, valueLengths.at(-1) ?? 0))
  while (fitting.join('\n').length > longestSection) fitting.pop()
  return fitting.join('\n')
}

function written({ name, value, href }: Line, length: number): string {
  const text = escaped(clipped(value, length))
  // In <address|text> a bar and a bracket would end what they stand in.
  return `*${name}:* ${href === undefined ? text : `<${escaped(href).replaceAll('|', '%7C')}|${text.replaceAll('|', '/')}>`}`
}

/** The three characters that Slack reads as markup of its own: a message can mention nobody and link nowhere. */
function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}
