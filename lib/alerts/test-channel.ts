import { randomUUID } from 'node:crypto'
import { appendAudit } from '../platform/audit.ts'
import type { Context } from '../platform/context.ts'
import { environmentOf } from '../platform/environment.ts'
import { CaretakerError } from '../platform/errors.ts'
import type { Message } from './channels/channel.ts'
import type { ChannelKind } from './channels/kinds.ts'
import { openChannel } from './channels/open-channel.ts'
import { severityMatrix } from './incidents/severities.ts'

/**
 * Sends one message on a channel, now, and ends at once what it opens there. Audited.
 * @throws {CaretakerError} `not_found`, `not_configured`; `upstream_failed` with what was answered
 */
export async function testChannel(ctx: Context, name: string): Promise<{ channel: string; kind: ChannelKind; status: number | null }> {
  const channel = await openChannel(ctx, name)
  const matrix = severityMatrix(ctx.config)
  const least = matrix.at(-1)
  const id = randomUUID()
  const message: Message = {
    id: `test-${id}`,
    dedupKey: `caretaker-test:${id}`,
    kind: 'opened',
    severity: least?.name ?? 'P3',
    rank: least?.rank ?? 3,
    of: matrix.length,
    payload: {
      number: 0,
      title: 'This is a test of the channel. Nothing is wrong.',
      component: 'caretaker',
      since: ctx.clock.now().toISOString(),
      affected: [],
    },
    link: null,
    app: ctx.config.app.name,
    environment: environmentOf(ctx),
    at: ctx.clock.now(),
    unheard: false,
    reached: [],
  }
  const outcome = await channel.send(ctx, message)
  if (outcome.state === 'failed')
    throw new CaretakerError(
      'upstream_failed',
      `The channel "${name}" did not take the message: ${outcome.code}. ${hints[outcome.code] ?? ''}`.trim(),
    )
  // Who is paged by a test must not have to end it.
  if (channel.kind === 'pagerduty' || channel.kind === 'opsgenie') await channel.send(ctx, { ...message, kind: 'resolved' })
  await ctx.db.transaction((tx) => appendAudit(tx, ctx, { action: 'alerts.channel_tested', target: `channels/${name}` }))
  return { channel: name, kind: channel.kind, status: outcome.status }
}

const hints: Readonly<Record<string, string>> = {
  http_400: 'It takes the address but not the message, or the key in it: check the key.',
  http_401: 'The key is not accepted.',
  http_403: 'The key is not accepted for this.',
  http_404: 'There is nothing at that address: it was revoked, or copied in part.',
  http_410: 'It was taken away.',
  timeout: 'It did not answer in time.',
  unreachable: 'It was not reached.',
  suppressed: 'Every address has bounced or complained.',
  address_refused: 'The address is private or unencrypted; allowPrivate says that this is meant.',
}
