import { readFile } from 'node:fs/promises'
import { setFlagsFromString } from 'node:v8'
import type { BackupChoice, BackupProgress, OnProgress } from '../lib/backup/index.ts'
import { CaretakerError } from '../lib/platform/errors.ts'
import type { Invocation, Output } from './command.ts'
import { bytes, duration } from './output.ts'

/** What the commands of `caretaker backup` have in common. */
export const identityOption = {
  identity: { type: 'string', value: 'FILE', about: 'the age identity that opens the backup' },
} as const

/** Whom to believe, and whose backups are meant, where the defaults do not say it. */
export const choiceOptions = {
  ...identityOption,
  signer: { type: 'string', multiple: true, value: 'KEY', about: 'believe what this public key signed, and nothing else' },
  'trust-unsigned': { type: 'boolean', about: 'also take what is not signed, or with a key that nobody here knows' },
  database: { type: 'string', value: 'DATABASE', about: 'whose newest backup, where a store holds those of several' },
} as const

export const choiceUsage = '[--identity FILE] [--signer KEY…] [--trust-unsigned] [--database DATABASE]'

/** What the options of `choiceOptions` say. */
export async function readChoice(flags: Invocation['flags']): Promise<Omit<BackupChoice, 'id'>> {
  const signers = listed(flags.signer)
  const trustUnsigned = flags['trust-unsigned'] === true
  if (signers !== undefined && trustUnsigned)
    throw new CaretakerError(
      'bad_request',
      '--signer and --trust-unsigned exclude each other: the one says whom to believe, the other that anybody will do.',
    )
  return {
    identity: await readIdentity(flags),
    signers,
    trustUnsigned,
    database: typeof flags.database === 'string' ? flags.database : undefined,
  }
}

/** What a repeatable option names; several may stand in one, between commas. A comma in double quotes is part of a name. */
export function listed(value: Invocation['flags'][string]): string[] | undefined {
  return Array.isArray(value) ? value.flatMap((one) => one.match(/(?:"[^"]*"|[^,])+/g) ?? []) : undefined
}

export function refuseMore(args: readonly string[], most: number, command: string): void {
  if (args.length > most) throw new CaretakerError('bad_request', `"${args[most]}" is one argument too many for "caretaker ${command}".`)
}

export async function readIdentity(flags: Invocation['flags']): Promise<string | undefined> {
  if (typeof flags.identity !== 'string') return undefined
  try {
    return await readFile(flags.identity, 'utf8')
  } catch (cause) {
    throw new CaretakerError('backup_identity', `The identity file ${flags.identity} cannot be read.`, { cause })
  }
}

/**
 * Keeps V8's space for new objects as small as it is now. It grows to 96 MB otherwise, whatever is in it, and stays: a backup of 20,000
 * tables took 405 MB, and 230 with this (measured); a large table costs no more work. To be called when a command begins.
 */
export function keepMemorySmall(): void {
  setFlagsFromString('--semi-space-growth-factor=1')
}

const verbs: Record<Exclude<BackupProgress['phase'], 'open'>, string> = {
  schema: 'reading',
  data: 'dumping',
  sequences: 'reading',
  files: 'copying files of',
  seal: 'writing',
  check: 'checking',
  load: 'loading',
  indexes: 'making',
  verify: 'comparing',
}

/** One line with how far it is, how fast, and how long it will take: sizes are estimates until a table is read. What opens to the app is said for good. */
export function showProgress(out: Output): OnProgress {
  const started = performance.now()
  // Phases of a restore take turns: a table is indexed while another is loaded.
  const began = new Map<string, { at: number; done: number }>()
  return (progress) => {
    const at = performance.now()
    if (progress.phase === 'open') {
      out.line(`open: ${progress.what} (after ${duration(at - started)})`)
      return
    }
    const first = began.get(progress.phase)
    const since = first === undefined || progress.doneBytes < first.done ? { at, done: progress.doneBytes } : first
    began.set(progress.phase, since)
    const elapsed = (at - since.at) / 1000
    const rate = elapsed > 0.5 ? (progress.doneBytes - since.done) / elapsed : 0
    const left =
      rate > 0 && progress.totalBytes > progress.doneBytes
        ? `, about ${duration(((progress.totalBytes - progress.doneBytes) / rate) * 1000)} left`
        : ''
    const done =
      progress.totalBytes === 0 ? '' : ` ${bytes(progress.doneBytes)} of ${bytes(Math.max(progress.totalBytes, progress.doneBytes))}`
    out.progress(`${verbs[progress.phase]} ${progress.what}${done}${rate > 0 ? `, ${bytes(Math.round(rate))}/s` : ''}${left}`)
  }
}
