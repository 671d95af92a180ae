import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

export interface Ended {
  /** The exit code; null when a signal ended it. */
  code: number | null
  stdout: string
  stderr: string
}

const main = fileURLToPath(new URL('../../cli/caretaker.js', import.meta.url))

/** One `caretaker` as a person starts it: a process of its own, from another folder, with nothing in the environment but `env`. */
export function start(
  args: readonly string[],
  options: { cwd: string; env?: Record<string, string> },
): { ended: Promise<Ended>; kill(signal: NodeJS.Signals): void } {
  const child = spawn(process.execPath, [main, ...args], {
    cwd: options.cwd,
    env: { PATH: process.env.PATH, HOME: options.cwd, ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let stdout = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  return {
    ended: new Promise((resolve, reject) => {
      child.on('error', reject)
      child.on('close', (code) => resolve({ code, stdout, stderr }))
    }),
    kill: (signal) => child.kill(signal),
  }
}

export function caretaker(args: readonly string[], options: { cwd: string }): Promise<Ended> {
  return start(args, options).ended
}
