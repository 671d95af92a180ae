#!/usr/bin/env node
import { parseArgs } from 'node:util'
import { CaretakerError } from '../lib/platform/errors.ts'
import { caretakerVersion } from '../lib/platform/version.ts'
import type { Command } from './command.ts'
import { expectedFailure } from './failure.ts'
import { help, listed, overview, takes } from './help.ts'
import { openContext } from './open-context.ts'
import { createOutput, shown } from './output.ts'

/** Where each first word's commands are; loaded when one of them is called. */
const groups: Record<string, () => Promise<{ commands: Command[] }>> = {
  up: () => import('./commands/up.ts'),
  plan: () => import('./commands/plan.ts'),
  health: () => import('./commands/health.ts'),
  jobs: () => import('./commands/jobs.ts'),
  schedules: () => import('./commands/schedules.ts'),
  backup: () => import('./commands/backup.ts'),
  gdpr: () => import('./commands/gdpr.ts'),
  webhooks: () => import('./commands/webhooks.ts'),
  alerts: () => import('./commands/alerts.ts'),
  incidents: () => import('./commands/incidents.ts'),
  db: () => import('./commands/db.ts'),
  keys: () => import('./commands/keys.ts'),
  security: () => import('./commands/security.ts'),
  report: () => import('./commands/report.ts'),
  metrics: () => import('./commands/metrics.ts'),
  logs: () => import('./commands/logs.ts'),
}

const common = {
  help: { type: 'boolean', short: 'h' },
  version: { type: 'boolean' },
  json: { type: 'boolean' },
  'database-url': { type: 'string' },
  config: { type: 'string' },
  data: { type: 'string' },
  store: { type: 'string' },
  recipient: { type: 'string', multiple: true },
} as const

type Output = ReturnType<typeof createOutput>
type Flags = Record<string, string | boolean | string[] | undefined>

/** Exit codes: 0 done, 1 failed, 2 bad usage. */
async function main(argv: string[]): Promise<number> {
  const out = createOutput({ json: argv.includes('--json'), stdout: process.stdout, stderr: process.stderr })
  // Where the words are is known before the command is: its own flags come after them.
  const early = parseArgs({ args: argv, options: common, allowPositionals: true, strict: false })
  const asked = early.positionals[0] === 'help'
  const words = early.positionals.slice(asked ? 1 : 0)
  const wantsHelp = asked || early.values.help === true
  const [first] = words
  if (first === undefined) {
    if (early.values.version === true) out.result({ version: caretakerVersion }, caretakerVersion)
    else {
      const all = (await Promise.all(Object.values(groups).map((load) => load()))).flatMap((group) => group.commands)
      out.result(all.map(brief), overview(all))
    }
    return wantsHelp || early.values.version === true ? 0 : 2
  }
  const load = Object.hasOwn(groups, first) ? groups[first] : undefined
  if (load === undefined)
    return usageError(out, `There is no command "${first}". \`caretaker --help\` lists them.`, await near(first, Object.keys(groups)))
  const { commands } = await load()
  const command = commands.find((one) => one.name === words.slice(0, one.name.split(' ').length).join(' '))
  if (command === undefined) {
    if (wantsHelp && words.length === 1) {
      out.result(commands.map(brief), overview(commands))
      return 0
    }
    const wanted = words.slice(0, 2).join(' ')
    return words.length === 1
      ? usageError(out, `"${first}" needs one of its commands:\n${listed(commands)}`)
      : usageError(
          out,
          `There is no command "${wanted}". \`caretaker ${first} --help\` lists them.`,
          await near(
            wanted,
            commands.map((one) => one.name),
          ),
        )
  }
  if (wantsHelp) {
    out.result({ ...brief(command), options: command.options ?? {} }, help(command))
    return 0
  }
  const opened: { close(): Promise<void> }[] = []
  try {
    const { flags, args } = await parseCommand(command, argv)
    const lazy = openContext({ flags, out })
    opened.push(lazy)
    await command.run({ args, flags, out, context: lazy.context })
    return process.exitCode === undefined ? 0 : Number(process.exitCode)
  } catch (error) {
    out.clear()
    return report(error, out)
  } finally {
    for (const one of opened) await one.close()
  }
}

function brief({ name, usage, summary }: Command) {
  return { name, usage, summary }
}

/** @throws {CaretakerError} `bad_request` for what the command does not take */
async function parseCommand(command: Command, argv: string[]): Promise<{ flags: Flags; args: string[] }> {
  const options = { ...common, ...command.options }
  const more = `\`caretaker ${command.name} --help\` shows what it takes.`
  let parsed: { values: Flags; positionals: string[] }
  try {
    parsed = parseArgs({ args: argv, options, allowPositionals: true, strict: true }) as typeof parsed
  } catch (error) {
    const unknown = error instanceof Error ? /^Unknown option '(-[^' ]*)'/.exec(error.message)?.[1] : undefined
    if (unknown === undefined)
      throw new CaretakerError(
        'bad_request',
        `${error instanceof Error ? error.message.split('\n')[0] : 'The arguments cannot be read'}. ${more}`,
      )
    const meant = await near(
      unknown,
      Object.keys(options).map((name) => `--${name}`),
    )
    const suggestion = meant === undefined ? '' : ` Did you mean "${meant}"?`
    throw new CaretakerError('bad_request', `"caretaker ${command.name}" has no option "${unknown}".${suggestion} ${more}`)
  }
  const { values: flags } = parsed
  const args = parsed.positionals.slice(command.name.split(' ').length)
  for (const [name, value] of Object.entries(flags))
    if (value === '' || (Array.isArray(value) && value.includes('')))
      throw new CaretakerError('bad_request', `--${name} is empty; leave it out or give it a value. ${more}`)
  const most = takes(command.usage)
  if (args.length > most)
    throw new CaretakerError('bad_request', `"${args[most]}" is one argument too many for "caretaker ${command.name}". ${more}`)
  return { flags, args }
}

const usageCodes = new Set(['bad_request', 'invalid_input', 'job_unknown'])

/** Says what went wrong: what was expected to in its own words, anything else with its stack, because it is a defect. */
function report(thrown: unknown, out: Output): number {
  const error = expectedFailure(thrown)
  if (out.json) {
    const body =
      error === undefined
        ? { code: 'internal', detail: thrown instanceof Error ? thrown.message : 'unknown' }
        : { code: error.code, detail: error.detail, issues: error.issues }
    process.stdout.write(`${JSON.stringify({ error: body }, null, 2)}\n`)
  }
  if (error === undefined) {
    const what = thrown instanceof Error ? (thrown.stack ?? thrown.message) : 'something that is not an error was thrown'
    process.stderr.write(`caretaker: ${what}\n`)
    return 1
  }
  process.stderr.write(`caretaker: ${shown(error.detail)} (${error.code})\n`)
  return usageCodes.has(error.code) && thrown instanceof CaretakerError ? 2 : 1
}

function usageError(out: Output, message: string, suggestion?: string): number {
  return report(new CaretakerError('bad_request', suggestion === undefined ? message : `${message} Did you mean "${suggestion}"?`), out)
}

async function near(word: string, known: string[]): Promise<string | undefined> {
  return (await import('../lib/config/nearest.ts')).nearest(word, known)
}

// Nobody reads any more (`| head`): the command still ends in order.
process.stdout.on('error', () => undefined)
const code = await main(process.argv.slice(2))
// The event loop may be held open by sockets of a stack that is shutting down; the command has ended, its output not yet.
process.stdout.write('', () => process.exit(code))
