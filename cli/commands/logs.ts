import { type ErrorReport, listErrors } from '../../lib/metrics/index.ts'
import { CaretakerError } from '../../lib/platform/errors.ts'
import type { Command } from '../command.ts'
import { table } from '../output.ts'
import { sinceTime } from '../since.ts'

const errors: Command = {
  name: 'logs errors',
  usage: '[--since 24h] [--limit 50]',
  summary:
    "What went wrong: failed jobs, dead events, checks that went down, 5xx by route, error lines of log drains, the app's own errors",
  options: {
    since: { type: 'string', value: 'TIME', about: 'a duration back from now or an ISO 8601 time; 24h unless given' },
    limit: { type: 'string', value: 'N', about: 'how many of the newest, 1 to 1000; 50 unless given' },
  },
  async run({ flags, context, out }) {
    const text = flags.limit === undefined ? '50' : String(flags.limit)
    if (!/^([1-9]\d{0,2}|1000)$/.test(text))
      throw new CaretakerError('invalid_input', `--limit: found "${text.slice(0, 40)}", expected a whole number from 1 to 1000.`)
    const ctx = await context()
    const to = ctx.clock.now()
    const report = await listErrors(ctx, { from: sinceTime(flags.since, to, '24 hours'), to, limit: Number(text) })
    out.result(report, describe(report))
  },
}

function describe({ from, entries, requests, logs, note }: ErrorReport): string {
  const parts: string[] = []
  if (entries.length > 0)
    parts.push(
      table(
        ['at (UTC)', 'where', 'what', 'message'],
        entries.map(({ at, source, what, message }) => [at.toISOString().slice(0, 19).replace('T', ' '), source, what, message]),
      ),
    )
  if (requests.length > 0)
    parts.push(
      table(
        ['service', 'route', 'status', 'answers'],
        requests.map(({ service, route, status, count }) => [service, route, status, count]),
      ),
    )
  if (logs.length > 0)
    parts.push(
      table(
        ['log of', 'level', 'lines'],
        logs.map(({ service, level, count }) => [service, level, count]),
      ),
    )
  if (parts.length === 0) parts.push(`No errors since ${from.slice(0, 16)}Z.`)
  if (note !== undefined) parts.push(`! ${note}`)
  return parts.join('\n\n')
}

export const commands: Command[] = [errors]
