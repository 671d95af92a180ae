import type { ParseArgsOptionDescriptor } from 'node:util'
import type { Context } from '../lib/platform/context.ts'

/** What a command writes. With `--json`, `result` prints one JSON document on stdout and everything else goes to stderr. */
export interface Output {
  readonly json: boolean
  /** The outcome: `human` is printed without `--json`, `value` with it. Called once. */
  result(value: unknown, human: string): void
  /** A line for a person: stdout without `--json`, stderr with it. */
  line(text: string): void
  /** A progress line on stderr: redrawn in place on a TTY, at most one a second elsewhere. */
  progress(text: string): void
}

export interface Invocation {
  /** What follows the command's words. */
  args: string[]
  flags: Record<string, string | boolean | string[] | undefined>
  out: Output
  /** The context over `--database-url`, `--config` and `--store`, or over the local stack. Closed when the command ends. */
  context: () => Promise<Context>
}

/** A flag, and what `--help` says of it. */
export interface CommandOption extends ParseArgsOptionDescriptor {
  about?: string
  /** What stands for its value in the help: "FILE". */
  value?: string
}

/** One command of the CLI, in `cli/commands/<noun>.ts`. */
export interface Command {
  /** Its words: "backup run". */
  name: string
  /**
   * What follows them: "ID --to URL". More words than it names outside of flags are refused, unless one ends with "…".
   */
  usage?: string
  summary: string
  options?: Record<string, CommandOption>
  run(invocation: Invocation): Promise<void>
}
