import { createHash } from 'node:crypto'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { inflateSync } from 'node:zlib'
import { armor, Decrypter } from 'age-encryption'
import * as vectors from 'cctv-age'
import { describe, expect, test } from 'vitest'
import { ChunkNonce, chunkBytes, nonceBytes, payloadKey, sealChunk } from '../../../lib/backup/age/chunk.ts'
import { decryptWith } from '../../../lib/backup/age/index.ts'
import { CaretakerError } from '../../../lib/platform/errors.ts'

/*
 * The age project's own vectors: https://github.com/C2SP/CCTV/tree/main/age. Each is read as a whole, in pieces and, where it is
 * short, byte by byte. Passphrases are no recipients of backups: those vectors go through age-encryption, which stands in
 * front of our reader for headers. Armour is taken off first, which is age-encryption's work, too.
 */

interface Vector {
  name: string
  expect: string
  payload: string | undefined
  identities: string[]
  passphrases: string[]
  armoured: boolean
  fileKey: string | undefined
  file: Buffer
}

function parse(name: string, bytes: Uint8Array): Vector {
  const whole = Buffer.from(bytes)
  const end = whole.indexOf('\n\n')
  const fields = whole
    .toString('utf8', 0, end)
    .split('\n')
    .map((line) => [line.slice(0, line.indexOf(': ')), line.slice(line.indexOf(': ') + 2)] as const)
  const all = (key: string) => fields.filter(([name]) => name === key).map(([, value]) => value)
  const known = ['expect', 'payload', 'identity', 'passphrase', 'armored', 'file key', 'comment', 'compressed']
  expect(fields.filter(([key]) => !known.includes(key))).toEqual([])
  const body = whole.subarray(end + 2)
  return {
    name,
    expect: all('expect')[0] ?? '',
    payload: all('payload')[0],
    identities: all('identity'),
    passphrases: all('passphrase'),
    armoured: all('armored')[0] === 'yes',
    fileKey: all('file key')[0],
    file: all('compressed')[0] === 'zlib' ? inflateSync(body) : body,
  }
}

/** What came out before the end or the failure, and the failure. */
interface Outcome {
  payload: string
  failure: unknown
}

async function read(file: Buffer, identities: readonly string[], pieceBytes: number): Promise<Outcome> {
  const hash = createHash('sha256')
  const pieces = function* () {
    for (let at = 0; at < file.length; at += pieceBytes) yield file.subarray(at, at + pieceBytes)
  }
  const decrypt = decryptWith(identities)
  // A stream that fails drops what it has given out and nobody has read yet: counted is what it gives out.
  const push = decrypt.push.bind(decrypt)
  decrypt.push = (chunk: Buffer | null) => {
    if (chunk !== null) hash.update(chunk)
    return push(chunk)
  }
  const failure = await pipeline(Readable.from(pieces()), decrypt, async (from: AsyncIterable<Buffer>) => {
    for await (const _ of from);
  }).catch((error: unknown) => error)
  return { payload: hash.digest('hex'), failure }
}

const codes: Readonly<Record<string, string | undefined>> = {
  success: undefined,
  'no match': 'backup_identity',
  'HMAC failure': 'backup_corrupt',
  'header failure': 'backup_corrupt',
  'payload failure': 'backup_corrupt',
}

const all = Object.entries(vectors).map(([name, bytes]) => parse(name, bytes))
const byPassphrase = all.filter((vector) => vector.passphrases.length > 0)
const ours = all.filter((vector) => vector.passphrases.length === 0)

test('none is left out: 117 are read here, 32 of them armoured, and 26 are of passphrases', () => {
  expect([all.length, ours.length, ours.filter((vector) => vector.armoured).length, byPassphrase.length]).toEqual([143, 117, 32, 26])
})

describe('read here', () => {
  test.each(ours.map((vector) => [vector.name, vector.expect, vector] as const))('%s: %s', async (_name, expected, vector) => {
    if (expected === 'armor failure') {
      expect(() => armor.decode(vector.file.toString('latin1'))).toThrow()
      return
    }
    const file = vector.armoured ? Buffer.from(armor.decode(vector.file.toString('latin1'))) : vector.file
    expect(Object.keys(codes)).toContain(expected)
    const sizes = [file.length, 1_000, ...(file.length < 5_000 ? [1] : [])]
    for (const size of sizes) {
      const { payload, failure } = await read(file, vector.identities, Math.max(1, size))
      expect(failure instanceof CaretakerError ? failure.code : failure, `in pieces of ${size}: ${failure}`).toBe(codes[expected])
      if (vector.payload !== undefined) expect(payload).toBe(vector.payload)
    }
  })
})

describe('through age-encryption', () => {
  test.each(byPassphrase.map((vector) => [vector.name, vector.expect, vector] as const))('%s: %s', async (_name, expected, vector) => {
    const decrypter = new Decrypter()
    for (const passphrase of vector.passphrases) decrypter.addPassphrase(passphrase)
    for (const identity of vector.identities) decrypter.addIdentity(identity)
    const file = vector.armoured ? Buffer.from(armor.decode(vector.file.toString('latin1'))) : vector.file
    const outcome = await decrypter.decrypt(file).catch((error: unknown) => error)
    if (expected === 'success')
      expect(
        createHash('sha256')
          .update(outcome as Uint8Array)
          .digest('hex'),
      ).toBe(vector.payload)
    else expect(outcome).toBeInstanceOf(Error)
  })
})

describe('written here', () => {
  const whole = all.filter((vector) => vector.expect === 'success' && vector.fileKey !== undefined && !vector.armoured)

  test('of every one that is whole the file key is told', () => {
    expect(whole.length).toBeGreaterThan(15)
  })

  test.each(whole.map((vector) => [vector.name, vector] as const))(
    '%s: the same payload under the same key is sealed to the same bytes',
    async (_name, vector) => {
      const mac = vector.file.indexOf('\n--- ')
      const body = vector.file.subarray(vector.file.indexOf('\n', mac + 1) + 1)
      const key = payloadKey(Buffer.from(vector.fileKey ?? '', 'hex'), body.subarray(0, nonceBytes))
      const decrypter = new Decrypter()
      for (const passphrase of vector.passphrases) decrypter.addPassphrase(passphrase)
      for (const identity of vector.identities) decrypter.addIdentity(identity)
      const plain = Buffer.from(await decrypter.decrypt(vector.file))
      const counter = new ChunkNonce()
      const out = Buffer.alloc(body.length - nonceBytes)
      let written = 0
      for (let at = 0; at === 0 || at < plain.length; at += chunkBytes)
        written += sealChunk(key, counter.next(at + chunkBytes >= plain.length), plain.subarray(at, at + chunkBytes), out, written)
      expect(written).toBe(out.length)
      expect(out.equals(body.subarray(nonceBytes))).toBe(true)
    },
  )
})
