import type { Context } from '../platform/context.ts'
import { CaretakerError, hasCode } from '../platform/errors.ts'
import type { ObjectStore } from '../platform/objects.ts'
import { databaseInstance } from './instance.ts'
import { listBackupIds, type Manifest, readManifest, type SignedManifest } from './manifest.ts'
import { openTrust, type TrustInput } from './signing/index.ts'

/** Which backup is meant, and whom to believe that it is one. */
export interface BackupChoice extends TrustInput {
  /** An id, a unique beginning of one, or `latest`. */
  id: string
  /** Whose `latest`, where a store holds backups of several databases: the name of one, or (the beginning of) its instance. */
  database?: string | undefined
}

/** A backup that shows in the store: read, or why it cannot be. */
export type FoundBackup = ({ id: string } & SignedManifest) | { id: string; problem: CaretakerError }

/** Every backup whose manifest is there, newest first. A damaged one is among them, with its problem. */
export async function findBackups(store: ObjectStore): Promise<FoundBackup[]> {
  const waiting = (await listBackupIds(store)).map((id, at) => ({ id, at }))
  const found: FoundBackup[] = []
  const reader = async () => {
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      const { id, at } = next
      try {
        found[at] = { id, ...(await readManifest(store, id)) }
      } catch (error) {
        // Deleted since it was listed.
        if (hasCode(error, 'object_missing')) continue
        if (!hasCode(error, 'backup_corrupt')) throw error
        found[at] = { id, problem: error }
      }
    }
  }
  // Four requests at a time, of three small objects each: the network is what this waits for.
  await Promise.all([reader(), reader(), reader(), reader()])
  const order = (one: FoundBackup) => ('problem' in one ? one.id : `${one.id.slice(0, 16)}${one.manifest.createdAt}`)
  // An id says the second; which of two in one second is newer, the manifest does.
  return found.filter((one) => one !== undefined).sort((a, b) => (order(a) < order(b) ? 1 : -1))
}

/** What tells the databases of a store apart: the instance, or the name where that is not known. */
export function databaseKey(database: { name: string; instance?: string | null | undefined }): string {
  return database.instance ?? `?/${database.name}`
}

type SelectContext = Pick<Context, 'config' | 'env' | 'db'>

/**
 * The manifest of the backup that is meant. An id is taken at its word. `latest` is the newest of one database: of the one that
 * is named, of the only one the store has, or of the one this deployment is connected to.
 * @throws {CaretakerError} `object_missing`, `invalid_input` when several could be meant, `backup_corrupt`, `backup_untrusted`
 */
export async function selectBackup(ctx: SelectContext, store: ObjectStore, choice: BackupChoice): Promise<Manifest> {
  const trust = openTrust(ctx, choice)
  if (choice.id !== 'latest') {
    const { manifest, signer } = await readManifest(store, await fullId(store, choice.id))
    await trust.require(`Backup ${manifest.id}`, signer)
    return manifest
  }
  const found = await findBackups(store)
  const sound = found.flatMap((one) => ('problem' in one ? [] : [one]))
  const key = await chooseDatabase(
    ctx,
    sound.map((one) => one.manifest),
    choice.database,
    store.url,
  )
  const mine = sound.filter((one) => databaseKey(one.manifest.database) === key)
  const [newest] = mine
  const [first] = found
  // Whose a damaged one is cannot be known: as long as it may be the newest, nothing else is taken for it.
  if (first !== undefined && 'problem' in first)
    throw new CaretakerError(
      'backup_corrupt',
      `${first.problem.detail}${newest === undefined ? '' : ` The newest that is sound is ${newest.id}: give its id to take that.`}`,
    )
  if (newest === undefined) throw new CaretakerError('object_missing', `There is no backup in ${store.url}.`)
  if (!(await trust.accepts(newest.signer))) {
    let hint = ''
    for (const one of mine)
      if (hint === '' && (await trust.accepts(one.signer))) hint = `The newest that is signed with a known key is ${one.id}.`
    await trust.require(`Backup ${newest.id}`, newest.signer, hint)
  }
  return newest.manifest
}

type Dated = Pick<Manifest, 'id' | 'createdAt'> & { database: { name: string; instance?: string | null | undefined } }

/**
 * The key (see `databaseKey`) of the database whose backups are meant; null where there are none.
 * @throws {CaretakerError} `invalid_input` where it could be one of several, with the newest backup of each
 */
export async function chooseDatabase(
  ctx: Pick<Context, 'db'>,
  newestFirst: readonly Dated[],
  wanted: string | undefined,
  storeUrl: string,
): Promise<string | null> {
  const newest = new Map<string, Dated>()
  for (const manifest of newestFirst) {
    const key = databaseKey(manifest.database)
    if (!newest.has(key)) newest.set(key, manifest)
  }
  const named = [...newest].filter(([key, { database }]) => wanted === undefined || database.name === wanted || key.startsWith(wanted))
  const [only, ...others] = named
  if (only === undefined && newest.size === 0) return null
  if (only !== undefined && others.length === 0) return only[0]
  const choices = (only === undefined ? [...newest] : named)
    .map(([key, manifest]) => `"${manifest.database.name}" (${key}), newest backup ${manifest.id} of ${manifest.createdAt}`)
    .join('; ')
  if (only === undefined)
    throw new CaretakerError('invalid_input', `--database: found "${wanted}"; ${storeUrl} holds backups of ${choices}.`)
  const connected = wanted === undefined ? await connectedDatabase(ctx).catch(() => null) : null
  if (connected !== null && newest.has(connected)) return connected
  throw new CaretakerError(
    'invalid_input',
    `${storeUrl} holds backups of ${named.length} databases: ${choices}. Say which: give the backup's id, or --database and one of those in brackets.`,
  )
}

/**
 * The key of the database that a command without a word on it works for: the one this deployment is connected to, whether it has
 * backups or not; or else the only one that has.
 * @throws {CaretakerError} `invalid_input` where neither is known, or `wanted` is none of them
 */
export async function ownDatabase(
  ctx: Pick<Context, 'db'>,
  newestFirst: readonly { id: string; createdAt: string; database: string; instance: string | null }[],
  wanted: string | undefined,
  storeUrl: string,
): Promise<string | null> {
  const known = newestFirst.map(({ id, createdAt, database, instance }) => ({ id, createdAt, database: { name: database, instance } }))
  if (wanted === undefined) {
    const connected = await connectedDatabase(ctx).catch(() => null)
    if (connected !== null) return connected
  }
  return chooseDatabase(ctx, known, wanted, storeUrl)
}

/** The key of the database this deployment is connected to. */
export async function connectedDatabase(ctx: Pick<Context, 'db'>): Promise<string> {
  const instance = await databaseInstance(ctx.db)
  if (instance !== null) return instance
  const [row] = await ctx.db.query<{ name: string }>('select current_database()::text as name')
  return databaseKey({ name: row?.name ?? '', instance })
}

/** The full id that a unique beginning of one means. */
async function fullId(store: ObjectStore, beginning: string): Promise<string> {
  const matching = (await listBackupIds(store)).filter((id) => id.startsWith(beginning))
  const [only, ...others] = matching
  if (only === undefined)
    throw new CaretakerError(
      'object_missing',
      `There is no backup ${beginning} in ${store.url}; \`caretaker backup list\` shows what there is.`,
    )
  if (others.length > 0 && only !== beginning)
    throw new CaretakerError('invalid_input', `"${beginning}" is the beginning of ${matching.length} backups; give more of the id.`)
  return only
}
