import { randomBytes } from 'node:crypto'
import { keyHash } from '../../lib/http/index.ts'
import { roles } from '../../lib/platform/actor.ts'
import { appendAudit } from '../../lib/platform/audit.ts'
import { CaretakerError } from '../../lib/platform/errors.ts'
import type { Command } from '../command.ts'

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
    const name = typeof flags.name === 'string' ? flags.name : role
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

export const commands: Command[] = [create]
