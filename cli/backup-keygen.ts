import { writeFile } from 'node:fs/promises'
import { CaretakerError } from '../lib/platform/errors.ts'
import { listed, refuseMore } from './backup-command.ts'
import type { Command } from './command.ts'

export const keygen: Command = {
  name: 'backup keygen',
  usage: '--out FILE [--signer KEY…]',
  summary: 'Make an identity file: what opens backups, and who may have written them. All a restore needs beside the store',
  options: {
    out: { type: 'string', value: 'FILE', about: 'where it goes; readable by its owner alone, never over a file that is there' },
    signer: {
      type: 'string',
      multiple: true,
      value: 'KEY',
      about: "a server's public key to believe, where it is not this one's",
    },
  },
  async run({ args, flags, out, context }) {
    refuseMore(args, 0, 'backup keygen')
    if (typeof flags.out !== 'string') throw new CaretakerError('bad_request', 'Where to? Give --out FILE.')
    const { makeIdentityFile } = await import('../lib/backup/index.ts')
    const { recipient, signers, text } = await makeIdentityFile(await context(), { signers: listed(flags.signer) })
    await writeFile(flags.out, text, { flag: 'wx', mode: 0o600 })
    out.result(
      { file: flags.out, recipient, signers },
      [
        `${flags.out} opens backups made for the recipient ${recipient}: put that into backup.recipients, and keep the file away from the server.`,
        signers.length === 0
          ? 'It vouches for no signer: when the first backup is made, add the line "# signer: KEY" that `caretaker backup list` shows.'
          : `It vouches for the signer ${signers.join(', ')}.`,
      ].join('\n'),
    )
  },
}
