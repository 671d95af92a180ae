import { type CheckResult, causes, healthAnswer, reportHealth } from '../../lib/health/index.ts'
import { CaretakerError } from '../../lib/platform/errors.ts'
import type { Command } from '../command.ts'
import { history } from '../health-history.ts'
import { maintenance } from '../health-maintenance.ts'
import { table } from '../output.ts'

const check: Command = {
  name: 'health check',
  usage: '[NAME]',
  summary: 'Look at every dependency now (or at one) and say what is wrong and what to do; exits with 1 when unhealthy',
  async run({ args, context, out }) {
    if (args.length > 1)
      throw new CaretakerError(
        'bad_request',
        `\`caretaker health check\` takes one name at most, found ${args.map((arg) => `"${arg}"`).join(', ')}.`,
      )
    const ctx = await context()
    out.progress('Checking …')
    const { report, results } = await reportHealth(ctx, { fresh: true, ...(args[0] === undefined ? {} : { only: [args[0]] }) })
    const advice = results.filter((result) => result.status === 'unhealthy').map(whatToDo)
    const rows = results.map((result) => [
      result.name,
      words(result),
      Math.round(result.durationMs),
      result.critical ? 'yes' : 'no',
      explain(result),
    ])
    out.result(
      { ...report, checks: results },
      [
        `${ctx.config.app.name} is ${report.status}.`,
        '',
        table(['check', 'status', 'ms', 'critical', 'why'], rows),
        ...(advice.length === 0 ? [] : ['', ...advice]),
      ].join('\n'),
    )
    if (healthAnswer(report.status).status !== 200) process.exitCode = 1
  },
}

function words(result: CheckResult): string {
  return result.status.replaceAll('_', ' ')
}

function explain(result: CheckResult): string | null {
  return result.cause === undefined || result.status === 'not_configured' ? null : causes[result.cause].words
}

function whatToDo(result: CheckResult): string {
  const names = result.measures?.names
  const which = Array.isArray(names) ? ` (${names.join(', ')})` : ''
  return `${result.name}${which}: ${causes[result.cause ?? 'internal'].advice}`
}

export const commands: Command[] = [check, history, ...maintenance]
