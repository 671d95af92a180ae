import { createHash } from 'node:crypto'
import type { Context } from '../../platform/context.ts'
import type { Env } from '../../platform/env.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { environmentCipher } from '../../platform/field-cipher.ts'
import type { ObjectStore } from '../../platform/objects.ts'
import { parseIdentities } from '../age/index.ts'
import { readObjectInto, type Sink } from '../object-stream.ts'
import { parseSignedDocument } from '../signed-document.ts'
import { openTrust, type TrustInput } from '../signing/index.ts'
import { type ConfigContent, configSchema } from './content.ts'

export const configPrefix = 'config/'

export interface ConfigVersion {
  /** `20261121T030000Z-HASH-DATABASE`: since when, what of, and whose; the hash is keyed, and equal for equal configurations. */
  id: string
  /** Eight digits that tell the databases of a store apart. */
  database: string
  createdAt: string
  hash: string
  storedBytes: number
  encrypted: boolean
  key: string
}

const name = /^config\/((\d{4})(\d{2})(\d{2})T(\d{2})(\d{2})(\d{2})Z-([0-9a-f]{32})-([0-9a-f]{8}))\.json\.zst(\.age)?$/

/** What the versions of a database are marked with; `key` as `databaseKey` gives it. */
export function databaseMark(key: string): string {
  return createHash('sha256').update(key).digest('hex').slice(0, 8)
}

/** Stands in the object's name, so that the writer, who cannot read what it wrote, sees whether anything has changed. */
export function configHash(env: Env, text: string): string {
  const sha256 = createHash('sha256').update(text).digest('hex')
  // Keyed where it can be: a plain hash would tell whether a guess at the configuration is right.
  return env.ENCRYPTION_KEY === undefined
    ? sha256.slice(0, 32)
    : environmentCipher(env, 'Naming a version of the configuration').tag('config-version', sha256).toString('hex')
}

/** The versions in the store, newest first. */
export async function listConfigVersions(ctx: Pick<Context, 'objects'>): Promise<ConfigVersion[]> {
  return readVersions(await ctx.objects())
}

export async function readVersions(store: ObjectStore): Promise<ConfigVersion[]> {
  const versions: ConfigVersion[] = []
  for await (const { key, bytes } of store.list(configPrefix)) {
    const [, id, year, month, day, hour, minute, second, hash, database, age] = name.exec(key) ?? []
    if (id === undefined || hash === undefined || database === undefined) continue
    const createdAt = `${year}-${month}-${day}T${hour}:${minute}:${second}Z`
    versions.push({ id, database, createdAt, hash, storedBytes: bytes, encrypted: age !== undefined, key })
  }
  return versions.reverse()
}

/** `identity`, the text of an identity file, is needed for what is encrypted. */
export interface ShowConfigInput extends TrustInput {
  /** An id, a unique beginning of one, or `latest`. */
  id: string
  /** Whose `latest`, by the mark at the end of an id. */
  database?: string | undefined
}

/**
 * A version of the configuration, opened.
 * @throws {CaretakerError} `object_missing`, `backup_identity`, `backup_corrupt`, `backup_untrusted`
 */
export async function showConfigVersion(
  ctx: Pick<Context, 'objects' | 'signal' | 'config' | 'env' | 'db'>,
  input: ShowConfigInput,
): Promise<{ version: ConfigVersion; content: ConfigContent }> {
  const store = await ctx.objects()
  const version = resolve(await readVersions(store), input, store.url)
  if (version.encrypted && input.identity === undefined)
    throw new CaretakerError('backup_identity', `Version ${version.id} is encrypted; give the identity file with --identity.`)
  const identities = version.encrypted && input.identity !== undefined ? parseIdentities(input.identity) : []
  const chunks: Buffer[] = []
  const collect: Sink = async (from) => {
    for await (const chunk of from) chunks.push(chunk)
  }
  await readObjectInto({ store, folder: '', encrypted: version.encrypted, identities, signal: ctx.signal }, { key: version.key }, [collect])
  const { content, signer } = parseSignedDocument(Buffer.concat(chunks), version.key, configSchema)
  await openTrust(ctx, input).require(`Version ${version.id} of the configuration`, signer)
  return { version, content }
}

function resolve(versions: readonly ConfigVersion[], input: ShowConfigInput, storeUrl: string): ConfigVersion {
  const { id, database } = input
  const newest = versions.filter((version, at) => versions.findIndex((other) => other.database === version.database) === at)
  const matching =
    id === 'latest'
      ? newest.filter((version) => database === undefined || version.database === database)
      : versions.filter((version) => version.id.startsWith(id))
  const [only, ...others] = matching
  if (only === undefined) throw new CaretakerError('object_missing', `There is no version ${id} of the configuration in ${storeUrl}.`)
  if (others.length > 0 && id === 'latest')
    throw new CaretakerError(
      'invalid_input',
      `${storeUrl} holds configurations of ${matching.length} databases; give the id of one: ${matching.map((version) => version.id).join(', ')}.`,
    )
  if (others.length > 0)
    throw new CaretakerError('invalid_input', `"${id}" is the beginning of ${matching.length} versions; give more of the id.`)
  return only
}
