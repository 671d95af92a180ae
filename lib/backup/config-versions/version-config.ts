import { Readable } from 'node:stream'
import { durationMs } from '../../config/index.ts'
import type { Context } from '../../platform/context.ts'
import type { JobOutcome, PlanLine } from '../../platform/job.ts'
import { writeObject } from '../object-stream.ts'
import { backupPolicy } from '../policy.ts'
import { connectedDatabase } from '../select-backup.ts'
import { signDocument } from '../signed-document.ts'
import { pinSigner, signerOf } from '../signing/index.ts'
import { canonicalText, type Deployment, readConfig } from './content.ts'
import { type ConfigVersion, configHash, configPrefix, databaseMark, readVersions } from './stored.ts'

export interface VersionConfigReport {
  /** The version that holds today's configuration. */
  id: string
  /** True when it was stored now. */
  changed: boolean
  /** Versions that `backup.keep.config` no longer keeps. */
  removed: string[]
}

const defaultKeep = '90 days'

/**
 * Stores the policy, the jobs, and what the database's schema hashes to, sealed and signed as backups are, if that is not what the newest
 * version holds; then deletes the versions that had been replaced longer ago than `backup.keep.config`, never the newest.
 * @throws {CaretakerError} `not_configured` without a recipient, `object_store_failed`, `database_unavailable`
 */
export async function versionConfig(ctx: Context, deployment: Deployment): Promise<VersionConfigReport> {
  const policy = backupPolicy(ctx)
  const store = await ctx.objects()
  const text = canonicalText(await readConfig(ctx, deployment))
  const hash = configHash(ctx.env, text)
  const database = databaseMark(await connectedDatabase(ctx))
  const versions = (await readVersions(store)).filter((version) => version.database === database)
  const now = ctx.clock.now()
  let newest = versions[0]
  const changed = newest?.hash !== hash
  if (changed) {
    const id = `${now.toISOString().replace(/[-:]|\.\d+/g, '')}-${hash}-${database}`
    const signer = signerOf(ctx.env)
    if (signer !== null) await pinSigner(ctx, signer.publicKey)
    const signed = signDocument(JSON.parse(text) as { format: string }, signer)
    const sealing = { store, folder: configPrefix, recipients: policy.recipients, signal: ctx.signal }
    const { key, bytes } = await writeObject(sealing, `${id}.json`, 'document', Readable.from([signed]))
    newest = {
      id,
      database,
      createdAt: now.toISOString(),
      hash,
      storedBytes: bytes,
      encrypted: policy.recipients !== null,
      key: `${configPrefix}${key}`,
    }
    versions.unshift(newest)
    ctx.log.info({ version: id }, 'configuration stored')
  }
  const removed = outdated(versions, now.getTime() - durationMs(ctx.config.backup?.keep?.config ?? defaultKeep))
  for (const version of removed) await store.delete(version.key)
  return { id: newest?.id ?? '', changed, removed: removed.map((version) => version.id) }
}

/** A version was in force until the next one: it is outdated when that one is older than `before` (ms). */
function outdated(newestFirst: readonly ConfigVersion[], before: number): ConfigVersion[] {
  return newestFirst.filter((_version, at) => at > 0 && Date.parse(newestFirst[at - 1]?.createdAt ?? '') < before)
}

/** The scheduled run of `versionConfig`. */
export async function configVersionJob(ctx: Context, deployment: Deployment): Promise<JobOutcome> {
  return { status: 'done', result: { ...(await versionConfig(ctx, deployment)) } }
}

/** Whether a version would be stored now. */
export async function planConfigVersion(ctx: Context, deployment: Deployment): Promise<PlanLine[]> {
  const store = await ctx.objects()
  const hash = configHash(ctx.env, canonicalText(await readConfig(ctx, deployment)))
  const database = databaseMark(await connectedDatabase(ctx))
  const newest = (await readVersions(store)).find((version) => version.database === database)
  const count = newest?.hash === hash ? 0 : 1
  return [{ action: 'store the policy and the hashes of the schema, if they changed', target: store.url, count, unit: 'objects' }]
}
