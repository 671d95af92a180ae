import { randomBytes } from 'node:crypto'
import { link, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { generateX25519Identity, identityToRecipient } from 'age-encryption'
import { systemClock } from '../lib/platform/clock.ts'
import { CaretakerError } from '../lib/platform/errors.ts'
import { createSigningKey, createTokens, type SigningKey } from './supabase/keys.ts'

/** What the local stack would otherwise ask a person to set: made once, kept in `secrets.json`, readable by its owner alone. */
export interface Secrets {
  databasePassword: string
  cronSecret: string
  encryptionKey: string
  stripeWebhookSecret: string
  /** Signs the local Supabase's tokens. */
  signingKey: SigningKey
  anonKey: string
  serviceRoleKey: string
  backupRecipient: string
}

const apiKeyLifetimeSeconds = 10 * 365 * 86_400

/** The folder's secrets, made where there are none. */
export async function loadSecrets(directory: string): Promise<Secrets> {
  const path = join(directory, 'secrets.json')
  const found = await readSecrets(path)
  if (found !== null) return found
  const signingKey = createSigningKey()
  const tokens = createTokens(signingKey, systemClock)
  const encryptionKey = randomBytes(32).toString('hex')
  const identity = await backupIdentity(directory, encryptionKey)
  const made: Secrets = {
    databasePassword: randomBytes(24).toString('hex'),
    cronSecret: randomBytes(32).toString('hex'),
    encryptionKey,
    stripeWebhookSecret: `whsec_${randomBytes(24).toString('hex')}`,
    signingKey,
    anonKey: tokens.sign({ iss: 'supabase-local', role: 'anon' }, apiKeyLifetimeSeconds),
    serviceRoleKey: tokens.sign({ iss: 'supabase-local', role: 'service_role' }, apiKeyLifetimeSeconds),
    backupRecipient: await identityToRecipient(identity),
  }
  await writeOnce(path, `${JSON.stringify(made, null, 2)}\n`)
  // Of two that made them at once, the first's are everybody's.
  return (await readSecrets(path)) ?? made
}

/** The age identity that opens the local stack's backups: a file that `age -i` and `--identity` take. */
export function identityFile(directory: string): string {
  return join(directory, 'backup-identity.txt')
}

async function backupIdentity(directory: string, encryptionKey: string): Promise<string> {
  const path = identityFile(directory)
  const identity = await generateX25519Identity()
  const { deriveSigner } = await import('../lib/backup/index.ts')
  await writeOnce(
    path,
    `# Opens the backups of this local stack. Whoever has it can read them.\n# public key: ${await identityToRecipient(identity)}\n# signer: ${deriveSigner(encryptionKey).publicKey}\n${identity}\n`,
  )
  const kept = (await readFile(path, 'utf8')).split('\n').find((line) => line.startsWith('AGE-SECRET-KEY-'))
  if (kept === undefined)
    throw new CaretakerError('local_stack', `${path} holds no age identity. Restore it, or remove the data folder to start over.`)
  return kept
}

async function readSecrets(path: string): Promise<Secrets | null> {
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null
    throw new CaretakerError('local_stack', `${path} cannot be read (${error.code}).`, { cause: error })
  })
  if (text === null) return null
  try {
    const secrets = JSON.parse(text) as Secrets
    if (secrets.signingKey.kid !== undefined && secrets.databasePassword.length > 0) return secrets
  } catch {
    // Said below.
  }
  throw new CaretakerError('local_stack', `${path} is damaged. Restore it, or remove the data folder to start over.`)
}

/** Writes the file whole, and only where there is none. */
async function writeOnce(path: string, text: string): Promise<void> {
  const draft = `${path}.${randomBytes(4).toString('hex')}`
  try {
    await mkdir(dirname(path), { recursive: true })
    await writeFile(draft, text, { mode: 0o600 })
    await link(draft, path)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'EEXIST')
      throw new CaretakerError('local_stack', `The data folder ${dirname(path)} cannot be written (${code}). Choose another: --data DIR`, {
        cause: error,
      })
  } finally {
    await rm(draft, { force: true })
  }
}
