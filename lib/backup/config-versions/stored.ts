import { createHash } from 'node:crypto'
import type { Context } from '../../platform/context.ts'
import type { Env } from '../../platform/env.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { environmentCipher } from '../../platform/field-cipher.ts'
import type { ObjectStore } from '../../platform/objects.ts'
import { parseIdentities } from '../age/index.ts'
import { readObjectInto, type Sink } from '../object-stream.ts'
import { type ConfigContent, configSchema } from './content.ts'

export const configPrefix = 'config/'

export interface ConfigVersion {
  /** `20261121T030000Z-HASH`: since when, and what of; the hash is keyed, and equal for equal configurations. */
  id: string
  createdAt: string
  hash: string
  storedBytes: number
  encrypted: boolean
  key: string
}

const name = /^config\/((\d{4})(\d{2})(\d{2})T(\d{2})(\d{2})(\d{2})Z-([0-9a-f]{32}))\.json\.zst(\.age)?$/

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
    const [, id, year, month, day, hour, minute, second, hash, age] = name.exec(key) ?? []
    if (id === undefined || hash === undefined) continue
    const createdAt = `${year}-${month}-${day}T${hour}:${minute}:${second}Z`
    versions.push({ id, createdAt, hash, storedBytes: bytes, encrypted: age !== undefined, key })
  }
  return versions.reverse()
}

export interface ShowConfigInput {
  /** An id, a unique beginning of one, or `latest`. */
  id: string
  /** The text of an identity file. Needed for what is encrypted. */
  identity?: string | undefined
}

/**
 * A version of the configuration, opened.
 * @throws {CaretakerError} `object_missing`, `backup_identity`, `backup_corrupt`
 */
export async function showConfigVersion(
  ctx: Pick<Context, 'objects' | 'signal'>,
  input: ShowConfigInput,
): Promise<{ version: ConfigVersion; content: ConfigContent }> {
  const store = await ctx.objects()
  const version = resolve(await readVersions(store), input.id, store.url)
  if (version.encrypted && input.identity === undefined)
    throw new CaretakerError('backup_identity', `Version ${version.id} is encrypted; give the identity file with --identity.`)
  const identities = version.encrypted && input.identity !== undefined ? parseIdentities(input.identity) : []
  const chunks: Buffer[] = []
  const collect: Sink = async (from) => {
    for await (const chunk of from) chunks.push(chunk)
  }
  await readObjectInto({ store, folder: '', encrypted: version.encrypted, identities, signal: ctx.signal }, { key: version.key }, [collect])
  const parsed = configSchema.safeParse(parseJson(Buffer.concat(chunks).toString('utf8')))
  if (!parsed.success)
    throw new CaretakerError('backup_corrupt', `${version.key} was changed, or is of a version this release does not know.`)
  return { version, content: parsed.data }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function resolve(versions: readonly ConfigVersion[], reference: string, storeUrl: string): ConfigVersion {
  const matching = reference === 'latest' ? versions.slice(0, 1) : versions.filter((version) => version.id.startsWith(reference))
  const [only, ...others] = matching
  if (only === undefined)
    throw new CaretakerError('object_missing', `There is no version ${reference} of the configuration in ${storeUrl}.`)
  if (others.length > 0)
    throw new CaretakerError('invalid_input', `"${reference}" is the beginning of ${matching.length} versions; give more of the id.`)
  return only
}
