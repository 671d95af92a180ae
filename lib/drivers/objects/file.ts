import { randomUUID } from 'node:crypto'
import { constants } from 'node:fs'
import { type FileHandle, link, lstat, mkdir, open, readdir, realpath, rename, rmdir, unlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { systemClock } from '../../platform/clock.ts'
import { CaretakerError } from '../../platform/errors.ts'
import type { ObjectInfo, ObjectStore } from '../../platform/objects.ts'
import { checkKey, checkPrefix, checkRange, isKey } from './key.ts'
import { withSource } from './source.ts'

/** Where unfinished objects are. "~" is in no key, so that nothing in there can be named or listed. */
const incomplete = '~incomplete'
/** Nothing writes to a file for a day and then goes on: its process is dead. */
const abandonedAfterMs = 86_400_000

/**
 * A folder as object store: `file:///DIR`. An object appears whole or not at all, because it is written elsewhere in
 * the folder, synced, and then renamed; folders are synced too, so that it is still there after a power cut.
 * Symbolic links below the root are neither followed nor listed.
 *
 * Unlike in S3, a name cannot be an object and a folder at once: beside `a`, `a/b` is refused.
 */
export function openFileStore(url: string): ObjectStore {
  const root = rootOf(url)
  let swept: Promise<void> | undefined

  return {
    url,

    put(key, body, options = {}) {
      return withSource(body, options.signal, async (chunks) => {
        checkKey(key)
        const ifAbsent = options.ifAbsent === true
        // Refused before the bytes are written, where it is known already; the link below settles the race.
        if (ifAbsent && (await inspect(root, key)) !== null) throw taken()
        await mkdir(join(root, incomplete), { recursive: true }).catch(fail('make the folder for'))
        swept ??= sweep(join(root, incomplete))
        await swept
        const temporary = join(root, incomplete, randomUUID())
        const handle = await open(temporary, 'wx', 0o600).catch(fail('create'))
        try {
          let written = 0
          for await (const chunk of chunks) written += await writeAll(handle, chunk)
          await handle.sync().catch(fail('sync'))
          const stat = await handle.stat()
          if (stat.size !== written) throw new CaretakerError('object_store_failed', `The folder holds ${stat.size} of ${written} bytes.`)
          await publish(temporary, root, key, ifAbsent)
          return { key, bytes: stat.size, modifiedAt: stat.mtime }
        } finally {
          await handle.close()
          await unlink(temporary).catch(() => undefined)
        }
      })
    },

    async get(key, options = {}) {
      checkKey(key)
      if (options.range !== undefined) checkRange(options.range)
      if ((await placeOf(root, key)) !== 'here') return null
      const handle = await open(join(root, key), constants.O_RDONLY | constants.O_NOFOLLOW).catch(absent('open'))
      if (handle === null) return null
      const stat = await handle.stat()
      const { start, end } = options.range ?? { start: 0, end: stat.size }
      if (!stat.isFile() || start >= Math.min(end, stat.size)) {
        await handle.close()
        return stat.isFile() ? Readable.from([], { objectMode: false }) : null
      }
      const signal = options.signal === undefined ? {} : { signal: options.signal }
      return handle.createReadStream({ start, end: end - 1, highWaterMark: 262_144, ...signal })
    },

    async head(key) {
      checkKey(key)
      if ((await placeOf(root, key)) !== 'here') return null
      return await inspect(root, key)
    },

    downloadUrl: () => Promise.resolve(null),

    async *list(prefix) {
      checkPrefix(prefix)
      yield* walk(root, '', prefix)
    },

    async delete(key) {
      checkKey(key)
      if ((await placeOf(root, key)) !== 'here') return
      const gone = await unlink(join(root, key)).catch(absent('delete'))
      if (gone === null) return
      await syncFolder(dirname(join(root, key)))
      // Folders are not objects: those that are empty now go too. A put that is just making one tries again.
      for (let folder = dirname(key); folder !== '.'; folder = dirname(folder)) {
        const removed = await rmdir(join(root, folder)).then(
          () => true,
          () => false,
        )
        if (!removed) break
      }
    },
  }
}

function rootOf(url: string): string {
  const expected = 'expected file:///DIR with an absolute folder'
  let parsed: URL
  try {
    parsed = new URL(url)
  } catch {
    throw new CaretakerError('invalid_input', `store: found "${url}"; ${expected}.`)
  }
  if (parsed.host !== '' || parsed.search !== '' || parsed.hash !== '' || parsed.pathname === '/')
    throw new CaretakerError('invalid_input', `store: found "${url}"; ${expected}.`)
  return fileURLToPath(parsed).replace(/\/+$/, '')
}

/** How many bytes were written: all of them. */
export async function writeAll(handle: FileHandle, chunk: Uint8Array): Promise<number> {
  let offset = 0
  while (offset < chunk.length) {
    const { bytesWritten } = await handle.write(chunk, offset).catch(fail('write'))
    offset += bytesWritten
  }
  return offset
}

/** A delete that empties a folder takes it along, also from under a put, which then makes it again. */
const publishAttempts = 50

/** Gives the finished file its name. `ifAbsent` is a hard link, which the file system refuses when the name is taken. */
async function publish(temporary: string, root: string, key: string, ifAbsent: boolean): Promise<void> {
  const target = join(root, key)
  for (let attempt = 1; ; attempt++) {
    try {
      const firstMade = await mkdir(dirname(target), { recursive: true })
      if ((await placeOf(root, key)) === 'elsewhere')
        throw new CaretakerError('object_store_failed', 'The folder cannot store the object: its path goes through a symbolic link.')
      await (ifAbsent ? link(temporary, target) : rename(temporary, target))
      await syncFolders(dirname(target), firstMade === undefined ? dirname(target) : dirname(firstMade))
      return
    } catch (error) {
      const code = codeOf(error)
      if (code === 'ENOENT' && attempt < publishAttempts) continue
      if (error instanceof CaretakerError) throw error
      if (code === 'EEXIST' && ifAbsent && (await inspect(root, key)) !== null) throw taken()
      if (ifAbsent && (code === 'EPERM' || code === 'ENOTSUP' || code === 'EOPNOTSUPP'))
        throw new CaretakerError(
          'object_store_failed',
          `The folder's file system has no hard links (${code}), which creating an object only once needs.`,
        )
      throw fail('name')(error)
    }
  }
}

/** A new name is durable once its folder is synced; a new folder, once the folder above is. */
async function syncFolders(from: string, upTo: string): Promise<void> {
  for (let folder = from; folder.length >= upTo.length; folder = dirname(folder)) {
    await syncFolder(folder)
    if (folder === dirname(folder)) break
  }
}

function taken(): CaretakerError {
  return new CaretakerError('conflict', 'An object of that name exists already.')
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r').catch(() => null)
  if (handle === null) return
  try {
    await handle.sync()
  } catch (error) {
    // Some file systems and Windows cannot sync a folder, and then need not.
    if (!['EINVAL', 'EPERM', 'EISDIR', 'ENOTSUP'].includes(codeOf(error) ?? '')) throw fail('sync the folder of')(error)
  } finally {
    await handle.close()
  }
}

/** Whether the folder of `key` is where it should be, is not there, or a symbolic link leads elsewhere. */
async function placeOf(root: string, key: string): Promise<'here' | 'absent' | 'elsewhere'> {
  const base = await realpath(root).catch(absent('find'))
  const folder = await realpath(dirname(join(root, key))).catch(absent('find'))
  if (base === null || folder === null) return 'absent'
  return folder === join(base, dirname(key)) ? 'here' : 'elsewhere'
}

async function inspect(root: string, key: string): Promise<ObjectInfo | null> {
  const stat = await lstat(join(root, key)).catch(absent('look up'))
  return stat?.isFile() === true ? { key, bytes: stat.size, modifiedAt: stat.mtime } : null
}

async function* walk(root: string, folder: string, prefix: string): AsyncGenerator<ObjectInfo, void, undefined> {
  const entries = (await readdir(join(root, folder), { withFileTypes: true }).catch(absent('list'))) ?? []
  const names = entries
    .filter((entry) => entry.isFile() || entry.isDirectory())
    .map((entry) => ({ path: `${folder}${entry.name}`, folder: entry.isDirectory() }))
    .filter((entry) => isKey(entry.path))
    // A folder sorts as its keys do, with the slash: "a.b" comes before "a/b".
    .map((entry) => (entry.folder ? { ...entry, path: `${entry.path}/` } : entry))
    .sort((a, b) => (a.path < b.path ? -1 : 1))
  for (const { path, folder: isFolder } of names) {
    if (isFolder) {
      if (path.startsWith(prefix) || prefix.startsWith(path)) yield* walk(root, path, prefix)
    } else if (path.startsWith(prefix)) {
      const info = await inspect(root, path)
      if (info !== null) yield info
    }
  }
}

/** Removes what killed processes left behind. */
async function sweep(folder: string): Promise<void> {
  const before = systemClock.now().getTime() - abandonedAfterMs
  for (const name of await readdir(folder).catch(() => [])) {
    const stat = await lstat(join(folder, name)).catch(() => null)
    if (stat !== null && stat.mtimeMs < before) await unlink(join(folder, name)).catch(() => undefined)
  }
}

function codeOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException).code
}

const reasons: Record<string, string> = {
  ENOSPC: 'no space is left on the disk',
  EDQUOT: 'the disk quota is used up',
  EROFS: 'the file system is read-only',
  EACCES: 'permission is denied',
  EPERM: 'permission is denied',
  EEXIST: 'a part of the path is an object, not a folder',
  ENOTDIR: 'a part of the path is an object, not a folder',
  EISDIR: 'a folder has that name',
  EIO: 'the disk reported an error',
}

/** Throws `object_store_failed` without the path: the messages of node:fs carry it, and with it the key. */
function fail(verb: string): (error: unknown) => never {
  return (error) => {
    const code = codeOf(error) ?? 'unknown error'
    const reason = reasons[code]
    throw new CaretakerError(
      'object_store_failed',
      `The folder could not ${verb} the object: ${reason === undefined ? code : `${reason} (${code})`}.`,
    )
  }
}

/** `null` for what is not there (or is a symbolic link), otherwise as `fail`. */
function absent(verb: string): (error: unknown) => null {
  return (error) => (['ENOENT', 'ENOTDIR', 'ELOOP'].includes(codeOf(error) ?? '') ? null : fail(verb)(error))
}
