import type { ConfigChange } from '../lib/backup/index.ts'
import { CaretakerError } from '../lib/platform/errors.ts'
import { choiceOptions, readChoice, refuseMore } from './backup-command.ts'
import type { Command } from './command.ts'
import { bytes, table } from './output.ts'

const list: Command = {
  name: 'backup config list',
  summary: 'List the versions of policy and schema in the store, newest first',
  async run({ out, context, args }) {
    refuseMore(args, 0, 'backup config list')
    const { listConfigVersions } = await import('../lib/backup/index.ts')
    const versions = await listConfigVersions(await context())
    out.result(
      versions,
      versions.length === 0
        ? 'There is no version yet: the job config-version stores one.'
        : table(
            ['version', 'since', 'size', 'encrypted'],
            versions.map((version) => [version.id, version.createdAt, bytes(version.storedBytes), version.encrypted ? 'yes' : 'NO']),
          ),
    )
  },
}

const { identity, signer, 'trust-unsigned': trustUnsigned } = choiceOptions
const configOptions = { identity, signer, 'trust-unsigned': trustUnsigned }

const show: Command = {
  name: 'backup config show',
  usage: '[ID] [--identity FILE] [--signer KEY…] [--trust-unsigned]',
  summary: 'Show a version of policy and schema (the newest, unless ID says which)',
  options: configOptions,
  async run({ out, context, args, flags }) {
    refuseMore(args, 1, 'backup config show')
    const ctx = await context()
    const choice = await readChoice(flags)
    const { showConfigVersion } = await import('../lib/backup/index.ts')
    const { version, content } = await showConfigVersion(ctx, { ...choice, id: args[0] ?? 'latest' })
    out.result({ ...version, content }, `Version ${version.id}, since ${version.createdAt}:\n${JSON.stringify(content, null, 2)}`)
  },
}

const diff: Command = {
  name: 'backup config diff',
  usage: 'ID [ID] [--identity FILE] [--signer KEY…] [--trust-unsigned]',
  summary: 'What changed between two versions of policy and schema (from the first to the second, or to the newest)',
  options: configOptions,
  async run({ out, context, args, flags }) {
    refuseMore(args, 2, 'backup config diff')
    const [from, to] = args
    if (from === undefined)
      throw new CaretakerError('bad_request', 'From which version? Give its id; `caretaker backup config list` shows them.')
    const ctx = await context()
    const choice = await readChoice(flags)
    const { diffConfigVersions } = await import('../lib/backup/index.ts')
    const found = await diffConfigVersions(ctx, { ...choice, from, to })
    out.result(
      found,
      found.changes.length === 0
        ? `Nothing differs between ${found.from} and ${found.to}.`
        : [`From ${found.from} to ${found.to}:`, ...found.changes.map(line)].join('\n'),
    )
  },
}

function line({ path, change, before, after }: ConfigChange): string {
  // Of an object of the schema there is only a hash.
  if (path.startsWith('database.objects.') || path === 'database.schemaSha256') return `  ${change} ${path}`
  if (change === 'added') return `  added ${path}: ${JSON.stringify(after)}`
  if (change === 'removed') return `  removed ${path}: ${JSON.stringify(before)}`
  return `  changed ${path}: ${JSON.stringify(before)} → ${JSON.stringify(after)}`
}

export const configCommands: Command[] = [list, show, diff]
