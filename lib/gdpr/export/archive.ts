import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { PassThrough, Readable, Transform, type Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'

export interface ArchivedFile {
  path: string
  bytes: number
  sha256: string
}

/** A ZIP that is written while it is read from: one file after the other, nothing kept in memory. */
export interface Archive {
  /** Adds a file; resolves when all of it is in the archive. */
  add(path: string, content: Readable | string, through?: Transform): Promise<ArchivedFile>
  /** Writes the directory and waits until everything has reached `out`. @returns the archive's size in bytes */
  close(): Promise<number>
}

export async function openArchive(out: Writable, mtime: Date): Promise<Archive> {
  const { ZipFile } = await import('yazl')
  const zip = new ZipFile()
  let bytes = 0
  const counted = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length
      done(null, chunk)
    },
  })
  const written = pipeline(zip.outputStream, counted, out)
  const failed = new Promise<never>((_resolve, reject) => {
    written.catch(reject)
    once(zip, 'error').then(([error]) => reject(error as Error), reject)
  })
  failed.catch(() => undefined)
  return {
    async add(path, content, through) {
      const hash = createHash('sha256')
      let bytes = 0
      const counted = new Transform({
        transform(chunk: Buffer, _encoding, done) {
          bytes += chunk.length
          hash.update(chunk)
          done(null, chunk)
        },
      })
      const entry = new PassThrough()
      zip.addReadStream(entry, path, { mtime, mode: 0o100644 })
      const source = typeof content === 'string' ? Readable.from([Buffer.from(content)]) : content
      await Promise.race([through === undefined ? pipeline(source, counted, entry) : pipeline(source, through, counted, entry), failed])
      return { path, bytes, sha256: hash.digest('hex') }
    },
    async close() {
      zip.end()
      await written
      return bytes
    },
  }
}
