import { access, mkdir, mkdtemp, readdir, rm, symlink, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { openObjectStore } from '../../../lib/drivers/objects/index.ts'
import { readEnv } from '../../../lib/platform/env.ts'
import { keys, objectStoreConformance, read } from '../../conformance/objects.ts'

const env = readEnv({})

objectStoreConformance(async () => {
  const directory = await mkdtemp(join(tmpdir(), 'caretaker-objects-'))
  return {
    store: await openObjectStore(String(pathToFileURL(join(directory, 'made at the first put'))), env),
    leftovers: async () => (await readdir(join(directory, 'made at the first put', '~incomplete')).catch(() => [])).length,
    close: () => rm(directory, { recursive: true }),
  }
})

describe('a folder', () => {
  let directory: string
  let root: string
  let outside: string
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'caretaker-objects-'))
    root = join(directory, 'root')
    outside = join(directory, 'outside')
    await mkdir(root)
    await mkdir(outside)
    await writeFile(join(outside, 'private'), 'private')
  })
  afterEach(() => rm(directory, { recursive: true }))
  const open = () => openObjectStore(String(pathToFileURL(root)), env)

  it('neither lists nor follows symbolic links', async () => {
    const store = await open()
    await store.put('real/a', Buffer.from('a'))
    await symlink(outside, join(root, 'folder'))
    await symlink(join(outside, 'private'), join(root, 'file'))
    await symlink(join(root, 'real'), join(root, 'alias'))
    expect(await keys(store, '')).toEqual(['real/a'])
    for (const key of ['folder/private', 'file', 'alias/a']) {
      expect(await store.head(key)).toBeNull()
      expect(await store.get(key)).toBeNull()
      await store.delete(key).catch(() => undefined)
    }
    await access(join(outside, 'private'))
    await expect(store.put('folder/new', Buffer.from('x'))).rejects.toMatchObject({
      code: 'object_store_failed',
      detail: expect.stringContaining('symbolic link'),
    })
    expect(await readdir(outside)).toEqual(['private'])
    expect(String(await read(store, 'real/a'))).toBe('a')
  })

  it('works where the root itself is reached through a symbolic link', async () => {
    await symlink(root, join(directory, 'link'))
    const store = await openObjectStore(String(pathToFileURL(join(directory, 'link'))), env)
    await store.put('a/b', Buffer.from('x'))
    expect(await keys(store, '')).toEqual(['a/b'])
    expect(String(await read(store, 'a/b'))).toBe('x')
  })

  it('shows nothing of what a killed process left, and takes it away after a day', async () => {
    await mkdir(join(root, '~incomplete'))
    await writeFile(join(root, '~incomplete', 'old'), 'half')
    await writeFile(join(root, '~incomplete', 'young'), 'half')
    const yesterday = new Date(Date.now() - 90_000_000)
    await utimes(join(root, '~incomplete', 'old'), yesterday, yesterday)
    const store = await open()
    expect(await keys(store, '')).toEqual([])
    await store.put('a', Buffer.from('x'))
    expect(await readdir(join(root, '~incomplete'))).toEqual(['young'])
  })

  it('leaves no empty folders behind, and says when a name is taken by a folder', async () => {
    const store = await open()
    await store.put('a/b/c', Buffer.from('x'))
    await expect(store.put('a/b', Buffer.from('x'))).rejects.toMatchObject({
      code: 'object_store_failed',
      detail: expect.stringContaining('a folder has that name'),
    })
    await expect(store.put('a/b/c/d', Buffer.from('x'))).rejects.toMatchObject({
      code: 'object_store_failed',
      detail: expect.stringContaining('is an object, not a folder'),
    })
    await store.delete('a/b/c')
    expect(await readdir(root)).toEqual(['~incomplete'])
  })

  it('puts and deletes side by side without losing a folder', async () => {
    const store = await open()
    await Promise.all(
      Array.from({ length: 8 }, async (_, writer) => {
        for (let round = 0; round < 25; round++) {
          await store.put(`shared/deep/${writer}`, Buffer.from('x'))
          await store.delete(`shared/deep/${writer}`)
        }
        await store.put(`shared/deep/${writer}`, Buffer.from('x'))
      }),
    )
    expect(await keys(store, '')).toHaveLength(8)
  })

  it.runIf(process.platform === 'linux')('says that the disk is full', async () => {
    // /dev/full refuses every write with ENOSPC.
    const { writeAll } = await import('../../../lib/drivers/objects/file.ts')
    const { open: openFile } = await import('node:fs/promises')
    const handle = await openFile('/dev/full', 'w')
    await expect(writeAll(handle, Buffer.from('x'))).rejects.toMatchObject({
      code: 'object_store_failed',
      detail: expect.stringContaining('no space is left on the disk (ENOSPC)'),
    })
    await handle.close()
  })

  it.each(['file://host/dir', 'file:///', 'file:///a?b', 'file://', 'ftp://a', 'nothing', ''])('refuses the address %j', async (url) => {
    await expect(openObjectStore(url, env)).rejects.toMatchObject({
      code: 'invalid_input',
      detail: expect.stringContaining('expected file:///DIR'),
    })
  })
})
