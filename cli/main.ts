#!/usr/bin/env node
import { parseArgs } from 'node:util'
import { CaretakerError } from '../lib/platform/errors.ts'
import type { Command } from './command.ts'
import { openContext } from './open-context.ts'
import { createOutput } from './output.ts'

/** Where each first word's commands are; loaded when one of them is called. */
const groups: Record<string, () => Promise<{ commands: Command[] }>> = {
  up: () => import('./commands/up.ts'),
  plan: () => import('./commands/plan.ts'),
  health: () => import('./commands/health.ts'),
  jobs: () => import('./commands/jobs.ts'),
  backup: () => import('./commands/backup.ts'),
  gdpr: () => import('./commands/gdpr.ts'),
  webhooks: () => import('./commands/webhooks.ts'),
  db: () => import('./commands/db.ts'),
  keys: () => import('./commands/keys.ts'),
  security: () => import('./commands/security.ts'),
}

const common = {
  help: { type: 'boolean', short: 'h' },
  json: { type: 'boolean' },
  'database-url': { type: 'string' },
  config: { type: 'string' },
  data: { type: 'string' },
  store: { type: 'string' },
  recipient: { type: 'string', multiple: true },
} as const

/** Exit codes: 0 done, 1 failed, 2 bad usage. */
async function main(argv: string[]): Promise<number> {
  const json = argv.includes('--json')
  const out = createOutput({ json, stdout: process.stdout, stderr: process.stderr })
  const first = argv.find((word) => !word.startsWith('-'))
  if (first === undefined || first === 'help') {
    const all = (await Promise.all(Object.values(groups).map((load) => load()))).flatMap((group) => group.commands)
    out.result(
      all.map(({ name, usage, summary }) => ({ name, usage, summary })),
      overview(all),
    )
    return first === undefined && !argv.includes('--help') && !argv.includes('-h') ? 2 : 0
  }
  const load = Object.hasOwn(groups, first) ? groups[first] : undefined
  if (load === undefined)
    return usageError(out, `There is no command "${first}". \`caretaker --help\` lists them.`, await near(first, Object.keys(groups)))
  const { commands } = await load()
  const words = argv.filter((word) => !word.startsWith('-'))
  const command = commands.find((one) => one.name === words.slice(0, one.name.split(' ').length).join(' '))
  if (command === undefined) {
    if (argv.includes('--help') || argv.includes('-h')) {
      out.result(
        commands.map(({ name, usage, summary }) => ({ name, usage, summary })),
        overview(commands),
      )
      return 0
    }
    const wanted = words.slice(0, 2).join(' ')
    return usageError(
      out,
      words.length === 1 ? `"${first}" needs one of its commands:\n${overview(commands)}` : `There is no command "${wanted}".`,
      await near(
        wanted,
        commands.map((one) => one.name),
      ),
    )
  }
  let parsed: ReturnType<typeof parseCommand>
  try {
    parsed = parseCommand(command, argv)
  } catch (error) {
    return usageError(out, `${error instanceof Error ? error.message : 'The arguments cannot be read.'}\n\n${help(command)}`)
  }
  const { flags, args } = parsed
  if (flags.help === true) {
    out.result({ name: command.name, usage: command.usage, summary: command.summary, options: command.options ?? {} }, help(command))
    return 0
  }
  const opened = openContext({ flags, out })
  try {
    await command.run({ args, flags, out, context: opened.context })
    return process.exitCode === undefined ? 0 : Number(process.exitCode)
  } catch (error) {
    out.clear()
    return report(error, json)
  } finally {
    await opened.close()
  }
}

function parseCommand(command: Command, argv: string[]) {
  const { values, positionals } = parseArgs({
    args: argv,
    options: { ...common, ...command.options },
    allowPositionals: true,
    strict: true,
  })
  return {
    flags: values as Record<string, string | boolean | string[] | undefined>,
    args: positionals.slice(command.name.split(' ').length),
  }
}

/** Says what went wrong: a coded error in its own words, anything else with its stack, because it is a defect. */
function report(error: unknown, json: boolean): number {
  const usage = error instanceof CaretakerError && (error.code === 'bad_request' || error.code === 'invalid_input')
  if (json) {
    const body =
      error instanceof CaretakerError
        ? { code: error.code, detail: error.detail, issues: error.issues }
        : { code: 'internal', detail: error instanceof Error ? error.message : 'unknown' }
    process.stdout.write(`${JSON.stringify({ error: body }, null, 2)}\n`)
  }
  if (error instanceof CaretakerError) process.stderr.write(`caretaker: ${error.detail} (${error.code})\n`)
  else
    process.stderr.write(
      `caretaker: ${error instanceof Error ? (error.stack ?? error.message) : 'something that is not an error was thrown'}\n`,
    )
  return usage ? 2 : 1
}

function usageError(out: ReturnType<typeof createOutput>, message: string, suggestion?: string): number {
  const text = suggestion === undefined ? message : `${message} Did you mean "${suggestion}"?`
  if (out.json) process.stdout.write(`${JSON.stringify({ error: { code: 'bad_request', detail: text } }, null, 2)}\n`)
  process.stderr.write(`caretaker: ${text}\n`)
  return 2
}

async function near(word: string, known: string[]): Promise<string | undefined> {
  return (await import('../lib/config/nearest.ts')).nearest(word, known)
}

function overview(commands: readonly Command[]): string {
  const width = Math.max(...commands.map((one) => `${one.name} ${one.usage ?? ''}`.length))
  return commands.map((one) => `  caretaker ${`${one.name} ${one.usage ?? ''}`.padEnd(width)}  ${one.summary}`).join('\n')
}

/** What the options say that every command takes. */
const described: [string, string][] = [
  ['--json', 'one JSON document on stdout, progress on stderr'],
  ['--database-url URL', 'any PostgreSQL 14 to 18; else DATABASE_URL, else the local stack'],
  ['--config FILE', 'another policy than the one at the root'],
  ['--data DIR', "the local stack's folder, where it is not .caretaker"],
]

const describedForBackups: [string, string][] = [
  ['--store URL', 'file:///DIR, s3://BUCKET/PREFIX or supabase://BUCKET; else BACKUP_STORE, else the policy'],
  ['--recipient age1…', 'who can read the backup (repeatable); else BACKUP_RECIPIENTS, else the policy'],
]

function help(command: Command): string {
  const own = Object.entries(command.options ?? {}).map(([name, option]): [string, string] => [
    `--${name}${option.type === 'string' ? ' VALUE' : ''}`,
    option.multiple === true ? 'repeatable' : '',
  ])
  const all = [...own, ...(command.name.startsWith('backup') ? describedForBackups : []), ...described]
  const width = Math.max(...all.map(([option]) => option.length))
  const lines = all.map(([option, text]) => `  ${option.padEnd(width)}  ${text}`.trimEnd())
  return `${command.summary}.\n\n  caretaker ${command.name}${command.usage === undefined ? '' : ` ${command.usage}`}\n\n${lines.join('\n')}`
}

// The event loop may be held open by sockets of a stack that is shutting down; the command has ended.
process.exit(await main(process.argv.slice(2)))
