import type { Context } from '../platform/context.ts'
import { parsePublicKey, pinnedSigners, signerOf } from './signing/index.ts'

export interface IdentityFile {
  /** For `backup.recipients`. */
  recipient: string
  /** Public keys that the file vouches for: those given, those of the policy, and those that have signed backups of this database. */
  signers: string[]
  /** The file: a secret. */
  text: string
}

/**
 * A new age identity as a file that holds all a restore on an empty laptop needs beside the store: what opens backups, and, in lines that
 * age reads as comments, who may have written them.
 */
export async function makeIdentityFile(
  ctx: Pick<Context, 'config' | 'env' | 'db' | 'clock'>,
  input: { signers?: readonly string[] | undefined } = {},
): Promise<IdentityFile> {
  const { generateX25519Identity, identityToRecipient } = await import('age-encryption')
  const identity = await generateX25519Identity()
  const recipient = await identityToRecipient(identity)
  const given = [...(input.signers ?? []), ...(ctx.config.backup?.signers ?? [])].map(parsePublicKey)
  const pinned = await pinnedSigners(ctx.db).catch(() => [])
  // Before the first backup of a deployment its own key is the one that will sign.
  const own = given.length + pinned.length === 0 ? signerOf(ctx.env) : null
  const signers = [...new Set([...given, ...pinned.map((one) => one.publicKey), ...(own === null ? [] : [own.publicKey])])]
  const lines = [
    `# Opens backups of ${ctx.config.app.name.replace(/[\r\n]+/g, ' ')}, and says who may have written them. Keep it away from the server.`,
    `# created: ${ctx.clock.now().toISOString()}`,
    `# public key: ${recipient}`,
    ...signers.map((signer) => `# signer: ${signer}`),
    identity,
  ]
  return { recipient, signers, text: `${lines.join('\n')}\n` }
}
