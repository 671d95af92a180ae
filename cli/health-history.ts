import { type CauseCode, causes, checkNamed, healthChanges, healthNow } from '../lib/health/index.ts'
import type { Command } from './command.ts'
import { duration, table } from './output.ts'
import { sinceTime } from './since.ts'

export const history: Command = {
  name: 'health history',
  usage: '[CHECK] [--since 7d]',
  summary: 'When which check changed its status, for how long and why, by what the health job has noted',
  options: { since: { type: 'string', value: 'WHEN', about: 'a duration such as 24h or "30 days", or a time; 7d unless given' } },
  async run({ args, flags, context, out }) {
    const ctx = await context()
    const [name] = args
    const only = name === undefined ? undefined : checkNamed(ctx, name)
    const now = ctx.clock.now()
    const from = sinceTime(flags.since, now, '7d')
    const wanted = <T extends { check: string }>(rows: readonly T[]) => rows.filter(({ check }) => only === undefined || check === only)
    const changes = wanted(await healthChanges(ctx, { from, to: now }))
    const standing = wanted(await healthNow(ctx))
    const rows = changes.map((change, index) => {
      const next = changes.slice(index + 1).find(({ check }) => check === change.check)
      const lastedMs = (next?.at ?? now).getTime() - change.at.getTime()
      return { ...change, until: next?.at ?? null, lastedMs }
    })
    const minutes = (at: Date) => at.toISOString().slice(0, 16).replace('T', ' ')
    out.result(
      { from, now: standing, changes: rows },
      [
        table(
          ['check', 'status', 'since', 'why'],
          standing.map(({ check, status, since, cause }) => [check, status, `${minutes(since)} UTC`, words(cause)]),
        ),
        '',
        rows.length === 0
          ? 'Nothing was noted in that time: the health job has not run.'
          : table(
              ['at (UTC)', 'check', 'status', 'for', 'why'],
              rows.map(({ at, check, status, until, lastedMs, cause }) => [
                minutes(at),
                check,
                status,
                `${duration(lastedMs)}${until === null ? ' so far' : ''}`,
                words(cause),
              ]),
            ),
      ].join('\n'),
    )
  },
}

function words(cause: string | null | undefined): string | null {
  return cause == null ? null : (causes[cause as CauseCode]?.words ?? cause)
}
