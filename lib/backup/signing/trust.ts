import type { Context } from '../../platform/context.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { pinnedSigners } from './pinned-signers.ts'
import { signerOf } from './signer.ts'
import { parsePublicKey } from './ssh-signature.ts'

/** Whom a command believes, beside the deployment itself. */
export interface TrustInput {
  /** Public keys the caller vouches for: with any, no other counts. */
  signers?: readonly string[] | undefined
  /** Take also what is not signed, or by a key that nobody here knows. */
  trustUnsigned?: boolean | undefined
  /** The text of an identity file: its lines `# signer: KEY` vouch for keys. */
  identity?: string | undefined
}

/** Decides whether what lies in a store was written by somebody it may have been written by. */
export interface Trust {
  /** `signer` is null for what is not signed. That a signature is right has been seen by then. */
  accepts(signer: string | null): Promise<boolean>
  /** @throws {CaretakerError} `backup_untrusted`, with what to do; `what` begins the sentence: "Backup 2026…" */
  require(what: string, signer: string | null, hint?: string): Promise<void>
}

type TrustContext = Pick<Context, 'config' | 'env' | 'db'>

/**
 * Believes the deployment's own key, those of `backup.signers` and of the identity file, and those that the database has noted; or,
 * where the caller names keys, these alone.
 * @throws {CaretakerError} `invalid_input` for a key that is none
 */
export function openTrust(ctx: TrustContext, input: TrustInput = {}): Trust {
  const named = (input.signers ?? []).map(parsePublicKey)
  const own = signerOf(ctx.env)?.publicKey
  const given = [
    ...(ctx.config.backup?.signers ?? []).map(parsePublicKey),
    ...(input.identity === undefined ? [] : signersOfIdentityFile(input.identity)),
  ]
  const known = new Set(named.length > 0 ? named : own === undefined ? given : [own, ...given])
  let noted: Promise<ReadonlySet<string>> | undefined
  const pinned = () => {
    // Asked last: the database may be the one that was lost.
    noted ??= pinnedSigners(ctx.db).then(
      (keys) => new Set(keys.map((key) => key.publicKey)),
      () => new Set<string>(),
    )
    return noted
  }
  const accepts = async (signer: string | null) =>
    input.trustUnsigned === true || (signer !== null && (known.has(signer) || (named.length === 0 && (await pinned()).has(signer))))
  return {
    accepts,
    async require(what, signer, hint = '') {
      if (await accepts(signer)) return
      const why =
        signer === null
          ? `${what} is not signed: nothing says who wrote it, and whoever may write to the store can make one like it. Pass --trust-unsigned to use it all the same.`
          : `${what} is signed with the key ${signer}, which nothing here vouches for. If it is your deployment's (the output of its backups and its "caretaker backup list" show it), pass --signer ${signer}, or add the line "# signer: ${signer}" to the identity file. If it is not, somebody else wrote this backup.`
      throw new CaretakerError('backup_untrusted', hint === '' ? why : `${why} ${hint}`)
    },
  }
}

/** What the deployment believes when it works by itself: what it would have written. Without a key of its own it signs nothing. */
export function ownTrust(ctx: TrustContext): Trust {
  return openTrust(ctx, { trustUnsigned: signerOf(ctx.env) === null })
}

/** The keys that an identity file vouches for: lines `# signer: KEY`, which age reads as comments. */
export function signersOfIdentityFile(text: string): string[] {
  return [...text.matchAll(/^#\s*signer:\s*(\S.*)$/gim)].map((match) => parsePublicKey(match[1] ?? ''))
}
