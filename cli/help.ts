import { caretakerVersion } from '../lib/platform/version.ts'
import type { Command } from './command.ts'
import { wrapped } from './output.ts'

/** Every text fits a terminal of this many columns. */
const columns = 80

/** What the options say that every command takes. */
const common: [string, string][] = [
  ['--json', 'one JSON document on stdout, progress on stderr'],
  ['--database-url URL', 'any PostgreSQL 14 to 18; else DATABASE_URL, else the local stack'],
  ['--config FILE', 'another policy than the one at the root'],
  ['--data DIR', "the local stack's folder, where it is not .caretaker"],
]

const ofBackups: [string, string][] = [
  ['--store URL', 'file:///DIR, s3://BUCKET/PREFIX or supabase://BUCKET; else BACKUP_STORE, else the policy'],
  ['--recipient age1…', 'who can read the backup (repeatable); else BACKUP_RECIPIENTS, else the policy'],
]

/** All commands, or one group of them. */
export function overview(commands: readonly Command[]): string {
  return [
    `Caretaker ${caretakerVersion}`,
    '',
    'Usage: caretaker COMMAND [ARGUMENTS] [OPTIONS]',
    '',
    inColumns(commands.map((one) => [one.name, one.summary])),
    '',
    'Every command takes',
    inColumns(common),
    '',
    '`caretaker COMMAND --help` shows its arguments and options.',
    'Exit codes: 0 done, 1 failed, 2 bad usage.',
  ].join('\n')
}

export function listed(commands: readonly Command[]): string {
  return inColumns(commands.map((one) => [one.name, one.summary]))
}

export function help(command: Command): string {
  const own = Object.entries(command.options ?? {}).map(([name, option]): [string, string] => [
    `--${name}${option.type === 'string' ? ` ${option.value ?? 'VALUE'}` : ''}`,
    [option.about, option.multiple === true ? 'repeatable' : undefined].filter((part) => part !== undefined).join('; '),
  ])
  const usage = `Usage: caretaker ${command.name}${command.usage === undefined ? '' : ` ${command.usage}`}`
  return [
    wrapped(`${command.summary}.`, columns).join('\n'),
    '',
    wrapped(usage, columns - 4).join('\n    '),
    '',
    inColumns([...own, ...(command.name.startsWith('backup') ? ofBackups : []), ...common]),
  ].join('\n')
}

/** How many words a command takes after its name, by its usage. */
export function takes(usage = ''): number {
  const words = usage
    .replaceAll(/\[-[^\]]*\]/g, '')
    .replaceAll(/--\S+ \S+/g, '')
    .split(' ')
    .filter((word) => word !== '')
  return words.some((word) => word.includes('…')) ? Number.POSITIVE_INFINITY : words.length
}

function inColumns(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([left]) => left.length))
  return rows
    .flatMap(([left, text]) =>
      wrapped(text, columns - width - 4).map((line, index) => `  ${(index === 0 ? left : '').padEnd(width)}  ${line}`.trimEnd()),
    )
    .join('\n')
}
