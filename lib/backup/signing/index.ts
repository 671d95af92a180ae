export { type PinnedSigner, pinnedSigners, pinSigner } from './pinned-signers.ts'
export { deriveSigner, type Signer, signerOf } from './signer.ts'
export { parsePublicKey } from './ssh-signature.ts'
export { openTrust, ownTrust, signersOfIdentityFile, type Trust, type TrustInput } from './trust.ts'
