import { type ChildProcess, spawn } from 'node:child_process'
import { getCompileCacheDir } from 'node:module'
import { dirname } from 'node:path'

/**
 * Runs a file with the Node that runs this. Of the environment it gets only where the libraries of the system are: no settings, no
 * secrets. Its standard input and output are pipes; what it writes to standard error is kept from people's eyes by whoever asks for it.
 */
export function startOwnNode(flags: readonly string[], file: string): ChildProcess {
  const { LD_LIBRARY_PATH, SystemRoot } = process.env
  const compiled = getCompileCacheDir()
  const known = { LD_LIBRARY_PATH, SystemRoot, NODE_COMPILE_CACHE: compiled === undefined ? undefined : dirname(compiled) }
  const env = Object.fromEntries(Object.entries(known).filter(([, value]) => value !== undefined))
  return spawn(process.execPath, [...flags, file], { stdio: ['pipe', 'pipe', 'pipe'], env, windowsHide: true })
}
