import { type ChildProcess, spawn } from 'node:child_process'

/**
 * Runs a file with the Node that runs this. Of the environment it gets only where the system's libraries are: no settings, no
 * secrets. Its standard input and output are pipes; what it writes to standard error is kept from people's eyes by whoever asks for it.
 */
export function startOwnNode(flags: readonly string[], file: string): ChildProcess {
  const { LD_LIBRARY_PATH, SystemRoot } = process.env
  const env = Object.fromEntries(Object.entries({ LD_LIBRARY_PATH, SystemRoot }).filter(([, value]) => value !== undefined))
  return spawn(process.execPath, [...flags, file], { stdio: ['pipe', 'pipe', 'pipe'], env, windowsHide: true })
}
