import { readFile } from 'node:fs/promises'
import type { BackupProgress, OnProgress } from '../lib/backup/index.ts'
import { CaretakerError } from '../lib/platform/errors.ts'
import type { Invocation, Output } from './command.ts'
import { bytes, duration } from './output.ts'

/** What the commands of `caretaker backup` have in common. */
export const identityOption = {
  identity: { type: 'string', value: 'FILE', about: 'the age identity that opens the backup' },
} as const

export function listed(value: Invocation['flags'][string]): string[] | undefined {
  return Array.isArray(value) ? value.flatMap((one) => one.split(',')) : undefined
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

const verbs: Record<BackupProgress['phase'], string> = {
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

/** One line with how far it is, how fast, and how long it will take: sizes are estimates until a table is read. */
export function showProgress(out: Output): OnProgress {
  let began: { phase: string; at: number; done: number } | undefined
  return (progress) => {
    const at = performance.now()
    if (began?.phase !== progress.phase) began = { phase: progress.phase, at, done: progress.doneBytes }
    const elapsed = (at - began.at) / 1000
    const rate = elapsed > 0.5 ? (progress.doneBytes - began.done) / elapsed : 0
    const left =
      rate > 0 && progress.totalBytes > progress.doneBytes
        ? `, about ${duration(((progress.totalBytes - progress.doneBytes) / rate) * 1000)} left`
        : ''
    const done =
      progress.totalBytes === 0 ? '' : ` ${bytes(progress.doneBytes)} of ${bytes(Math.max(progress.totalBytes, progress.doneBytes))}`
    out.progress(`${verbs[progress.phase]} ${progress.what}${done}${rate > 0 ? `, ${bytes(Math.round(rate))}/s` : ''}${left}`)
  }
}
