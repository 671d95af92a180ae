import { randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import { Decrypter, Encrypter, generateHybridIdentity, generateX25519Identity, identityToRecipient } from 'age-encryption'
import { beforeAll, describe, expect, test } from 'vitest'
import { decryptWith, encryptTo, parseIdentities } from '../../../lib/backup/age/index.ts'
import { hasCode } from '../../../lib/platform/errors.ts'
import fc from '../../support/fast-check.ts'

const chunk = 64 * 1024
/** Around every boundary the format has, and of nothing at all. */
const sizes = [
  0,
  1,
  15,
  16,
  17,
  chunk - 17,
  chunk - 16,
  chunk - 1,
  chunk,
  chunk + 1,
  2 * chunk - 1,
  2 * chunk,
  2 * chunk + 1,
  5 * chunk + 4321,
]

let identity: string
let recipient: string
beforeAll(async () => {
  identity = await generateX25519Identity()
  recipient = await identityToRecipient(identity)
})

async function collect(stream: Readable): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const part of stream) chunks.push(part as Buffer)
  return Buffer.concat(chunks)
}

function pieces(bytes: Buffer, length: number): Buffer[] {
  const cut: Buffer[] = []
  for (let at = 0; at < bytes.length; at += length) cut.push(bytes.subarray(at, at + length))
  return cut
}

async function encrypt(plain: Buffer, pieceBytes = 10_007, recipients = [recipient]): Promise<Buffer> {
  const writer = await encryptTo(recipients)
  return Buffer.concat([...pieces(plain, pieceBytes).map((piece) => Buffer.from(writer.update(piece))), writer.end()])
}

async function decrypt(sealed: Buffer, pieceBytes = 10_007, identities = [identity]): Promise<Buffer> {
  const stream = decryptWith(identities)
  const source = Readable.from(pieces(sealed, pieceBytes))
  source.pipe(stream)
  return collect(stream)
}

async function official(sealed: Buffer, key = identity): Promise<Buffer> {
  const decrypter = new Decrypter()
  decrypter.addIdentity(key)
  return Buffer.from(await decrypter.decrypt(sealed))
}

describe.each(sizes)('%i bytes', (size) => {
  test('written here, read by age-encryption', async () => {
    const plain = randomBytes(size)
    const sealed = await encrypt(plain)
    expect((await official(sealed)).equals(plain)).toBe(true)
    expect((await decrypt(sealed)).equals(plain)).toBe(true)
  })

  test('written by age-encryption, read here: whole, in pieces, around the header byte by byte', async () => {
    const plain = randomBytes(size)
    const encrypter = new Encrypter()
    encrypter.addRecipient(recipient)
    const sealed = Buffer.from(await encrypter.encrypt(plain))
    expect((await decrypt(sealed, sealed.length)).equals(plain)).toBe(true)
    expect((await decrypt(sealed, 1_000)).equals(plain)).toBe(true)
    const header = pieces(sealed.subarray(0, 400), 1)
    expect((await collect(Readable.from([...header, sealed.subarray(400)]).pipe(decryptWith([identity])))).equals(plain)).toBe(true)
  })
})

test('several recipients: each opens it, a stranger does not', async () => {
  const second = await generateX25519Identity()
  const plain = randomBytes(1_000)
  const sealed = await encrypt(plain, 100, [recipient, await identityToRecipient(second)])
  expect((await decrypt(sealed, 100, [second])).equals(plain)).toBe(true)
  expect((await official(sealed)).equals(plain)).toBe(true)
  const stranger = await decrypt(sealed, 100, [await generateX25519Identity()]).catch((error: unknown) => error)
  expect(hasCode(stranger, 'backup_identity')).toBe(true)
})

test('a changed bit anywhere is found, and no byte of its chunk is given out', async () => {
  const plain = randomBytes(2 * chunk + 100)
  const sealed = await encrypt(plain)
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 0, max: sealed.length * 8 - 1 }), async (bit) => {
      const changed = Buffer.from(sealed)
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      const outcome = await decrypt(changed).catch((error: unknown) => error)
      expect(outcome).toBeInstanceOf(Error)
    }),
    { numRuns: 150 },
  )
})

test.each([
  ['inside the header', 40],
  ['before the nonce ends', 205],
  ['inside a chunk', 10_000],
  ['between two chunks', -1],
])('cut off %s, it is an error and not a short result', async (_where, at) => {
  const sealed = await encrypt(randomBytes(3 * chunk))
  const headerBytes = sealed.length - 3 * (chunk + 16) - 16
  const cut = at === -1 ? headerBytes + 16 + chunk + 16 : at
  const outcome = await decrypt(sealed.subarray(0, cut)).catch((error: unknown) => error)
  expect(hasCode(outcome, 'backup_corrupt')).toBe(true)
})

test('bytes after the end, two chunks swapped, an empty chunk at the end: refused', async () => {
  const sealed = await encrypt(randomBytes(2 * chunk))
  const body = sealed.length - 2 * (chunk + 16)
  const [head, first, second] = [sealed.subarray(0, body), sealed.subarray(body, body + chunk + 16), sealed.subarray(body + chunk + 16)]
  for (const bad of [
    [head, first, second, Buffer.from([0])],
    [head, second, first],
    [head, first, first, second],
    [head, first, second, Buffer.alloc(16)],
  ]) {
    const outcome = await decrypt(Buffer.concat(bad)).catch((error: unknown) => error)
    expect(hasCode(outcome, 'backup_corrupt')).toBe(true)
  }
})

describe('an identity file', () => {
  test('may hold comments and blank lines', () => {
    expect(parseIdentities(`# created: today\n# public key: ${recipient}\n\n${identity}\n`)).toEqual([identity])
  })

  test.each(['', '# nothing\n', 'age1qqqq', 'AGE-SECRET-KEY-1QQQ extra'])('without a usable key is refused: %j', (text) => {
    expect(() => parseIdentities(text)).toThrow(/identity/)
  })
})

test('a recipient of another kind, and one of each', async () => {
  const hybrid = await generateHybridIdentity()
  const plain = randomBytes(1_000)
  const sealed = await encrypt(plain, 100, [await identityToRecipient(hybrid), recipient])
  expect((await official(sealed, hybrid)).equals(plain)).toBe(true)
  expect((await official(sealed)).equals(plain)).toBe(true)
})

test('a recipient that is none, or is mistyped, is named', async () => {
  await expect(encryptTo(['age1nonsense'])).rejects.toThrow(/"age1nonsense" is not an age recipient/)
  for (const at of [5, 30, 61]) {
    const mistyped = `${recipient.slice(0, at)}${recipient[at] === 'q' ? 'p' : 'q'}${recipient.slice(at + 1)}`
    await expect(encryptTo([mistyped])).rejects.toThrow(`"${mistyped}" is not an age recipient`)
  }
})
