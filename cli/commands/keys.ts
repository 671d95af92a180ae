import { randomBytes } from 'node:crypto'
import { keyHash, listKeys, revokeKey } from '../../lib/http/index.ts'
import { roles } from '../../lib/platform/actor.ts'
import { appendAudit } from '../../lib/platform/audit.ts'
import { CaretakerError } from '../../lib/platform/errors.ts'
import { writtenTitle } from '../../lib/platform/written-text.ts'
import type { Command } from '../command.ts'
import { table } from '../output.ts'

const create: Command = {
  name: 'keys create',
  usage: '--role ROLE [--name NAME]',
  summary: 'Make an operator key; it is shown once',
  options: {
    role: { type: 'string', value: 'ROLE', about: `one of ${roles.join(', ')}` },
    name: { type: 'string', value: 'NAME', about: 'whose it is; the role unless given' },
  },
  async run({ flags, context, out }) {
    const role = roles.find((one) => one === flags.role)
    if (role === undefined)
      throw new CaretakerError(
        'invalid_input',
        `--role: found ${flags.role === undefined ? 'nothing' : `"${String(flags.role)}"`}, expected ${roles.join(', ')}.`,
      )
    const ctx = await context()
    const key = `ck_${randomBytes(32).toString('base64url')}`
    const name = typeof flags.name === 'string' ? writtenTitle('--name', flags.name, 100) : role
    const id = await ctx.db.transaction(async (tx) => {
      const [row] = await tx.query<{ id: string }>(
        'insert into caretaker.api_keys (name, role, hash) values ($1, $2, $3::bytea) returning id::text',
        [name, role, keyHash(key)],
      )
      await appendAudit(tx, ctx, { action: 'key.created', target: row?.id ?? '', detail: { role } })
      return row?.id
    })
    out.result({ id, role, name, key }, `${key}\n\nThe key of role "${role}" is shown this once. Present it as a bearer token.`)
  },
}

const list: Command = {
  name: 'keys list',
  summary: 'Operator keys with their role, use and sessions; never the keys themselves',
  async run({ context, out }) {
    const keys = await listKeys(await context())
    const day = (at: Date | null) => at?.toISOString().slice(0, 10) ?? ''
    const rows = keys.map((key) => [key.id, key.name, key.role, day(key.createdAt), day(key.lastUsedAt), day(key.revokedAt), key.sessions])
    out.result(keys, keys.length === 0 ? 'No keys.' : table(['id', 'name', 'role', 'made', 'last used', 'revoked', 'sessions'], rows))
  },
}

const revoke: Command = {
  name: 'keys revoke',
  usage: 'ID',
  summary: 'Take an operator key back: at once, also for whoever is signed in with it',
  async run({ args, context, out }) {
    const [id, ...more] = args
    if (id === undefined || more.length > 0)
      throw new CaretakerError(
        'bad_request',
        `\`caretaker keys revoke\` takes one id, found ${args.length}. \`caretaker keys list\` shows them.`,
      )
    const name = await revokeKey(await context(), id)
    out.result({ id, name, revoked: true }, `The key "${name}" is revoked, and its sessions are over.`)
  },
}

export const commands: Command[] = [create, list, revoke]
