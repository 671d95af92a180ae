import { randomBytes } from 'node:crypto'
import { link, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { CaretakerError } from '../lib/platform/errors.ts'
import { startOf } from './process.ts'

export interface Lock {
  release(): Promise<void>
}

interface Holder {
  pid: number
  /** When the process started: a number that was given to another process since does not hold the lock. */
  started: string
  /** What it does, for the sentence: "caretaker up". */
  purpose: string
}

/**
 * One process at a time in a data folder. A lock whose process is gone, even by SIGKILL or a reboot, is taken over.
 * @param waitMs how long to wait for the other process to end
 * @throws {CaretakerError} `local_stack` naming the process that holds it
 */
export async function acquireLock(directory: string, purpose: string, waitMs = 0): Promise<Lock> {
  const path = join(directory, 'lock')
  const mine = JSON.stringify({ pid: process.pid, started: await startOf(process.pid), purpose } satisfies Holder)
  for (let waited = 0; ; waited += 100) {
    if (await create(path, mine)) {
      return {
        async release() {
          if ((await read(path)) === mine) await rm(path, { force: true })
        },
      }
    }
    const text = await read(path)
    if (text === null) continue
    const holder = parse(text)
    if (holder === null || holder.started === '' || (await startOf(holder.pid)) !== holder.started) {
      await removeStale(path, text)
      continue
    }
    if (waited >= waitMs)
      throw new CaretakerError(
        'local_stack',
        `Another process (${holder.pid}, ${holder.purpose}) is using ${directory}. Stop it (Ctrl-C in its terminal, or: kill ${holder.pid}), or use another folder: --data DIR`,
      )
    await delay(100)
  }
}

/** Creates the file whole, or not at all: a kill while it is written leaves no empty lock. */
async function create(path: string, text: string): Promise<boolean> {
  const draft = `${path}.${randomBytes(4).toString('hex')}`
  try {
    await writeFile(draft, text, { mode: 0o600 }).catch((cause: NodeJS.ErrnoException) => {
      throw new CaretakerError(
        'local_stack',
        `The data folder ${dirname(path)} cannot be written (${cause.code}). Choose another: --data DIR`,
        { cause },
      )
    })
    await link(draft, path)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  } finally {
    await rm(draft, { force: true })
  }
}

/** Two processes may find the same stale lock: what was moved away is looked at again, and a fresh one is put back. */
async function removeStale(path: string, stale: string): Promise<void> {
  const aside = `${path}.${randomBytes(4).toString('hex')}`
  try {
    await rename(path, aside)
  } catch {
    return
  }
  if ((await read(aside)) !== stale) await link(aside, path).catch(() => undefined)
  await rm(aside, { force: true })
}

async function read(path: string): Promise<string | null> {
  return readFile(path, 'utf8').catch(() => null)
}

function parse(text: string): Holder | null {
  try {
    const value = JSON.parse(text) as Partial<Holder>
    return typeof value.pid === 'number' && typeof value.started === 'string' && typeof value.purpose === 'string'
      ? (value as Holder)
      : null
  } catch {
    return null
  }
}
