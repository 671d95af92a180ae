import { execFile, spawnSync } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { deriveSigner, parsePublicKey, signersOfIdentityFile } from '../../../lib/backup/signing/index.ts'
import { armouredSignature, publicKeyText, signBytes, signerOfArmoured, verifyBytes } from '../../../lib/backup/signing/ssh-signature.ts'
import fc from '../../support/fast-check.ts'

const run = promisify(execFile)
const signer = deriveSigner('5a'.repeat(32))
const message = Buffer.from('0123456789abcdef  roles.sql\n')
const namespace = 'caretaker-backup'

describe('a signature', () => {
  const file = signer.signFile(namespace, message)

  test('says who signed, of that message, in that namespace, and of nothing else', () => {
    expect(signerOfArmoured(file, namespace, message)).toBe(signer.publicKey)
    expect(signerOfArmoured(file, 'caretaker-document', message)).toBeUndefined()
    expect(signerOfArmoured(file, namespace, Buffer.concat([message, message]))).toBeUndefined()
    expect(signer.publicKey).toMatch(/^AAAAC3NzaC1lZDI1NTE5AAAAI[A-Za-z0-9+/]{43}$/)
    expect(deriveSigner('5b'.repeat(32)).publicKey).not.toBe(signer.publicKey)
  })

  test('that is changed in any one bit is none', () => {
    const bytes = Buffer.from(file)
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const changed = Buffer.from(bytes)
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      expect(signerOfArmoured(changed.toString('latin1'), namespace, message), `bit ${bit}`).toBeUndefined()
    }
  })

  test('that is cut short, or has anything before, in or behind it, is none', () => {
    fc.assert(
      fc.property(fc.nat(file.length), fc.string({ maxLength: 3 }), (at, more) => {
        const changed = `${file.slice(0, at)}${more}${file.slice(at)}`
        fc.pre(changed !== file)
        return (
          signerOfArmoured(changed, namespace, message) === undefined &&
          signerOfArmoured(file.slice(0, at - 1), namespace, message) === undefined
        )
      }),
    )
  })

  test('by another key under the name of this one is none', () => {
    const other = deriveSigner('77'.repeat(32))
    const forged = armouredSignature(signer.publicKey, namespace, other.sign(namespace, message))
    expect(signerOfArmoured(forged, namespace, message)).toBeUndefined()
    expect(verifyBytes(signer.publicKey, namespace, message, other.sign(namespace, message))).toBe(false)
  })
})

describe('a public key', () => {
  test('is read as a line of authorized_keys has it, and from the comments of an identity file', () => {
    expect(parsePublicKey(` ssh-ed25519 ${signer.publicKey} somebody@somewhere `)).toBe(signer.publicKey)
    expect(
      signersOfIdentityFile(
        `# public key: age1x\n# signer: ${signer.publicKey}\r\n#signer: ssh-ed25519 ${signer.publicKey}\nAGE-SECRET-KEY-1X\n`,
      ),
    ).toEqual([signer.publicKey, signer.publicKey])
    expect(signersOfIdentityFile('# signed by nobody\nAGE-SECRET-KEY-1X\n')).toEqual([])
  })

  test.each(['', 'AAAA', 'ssh-rsa AAAAB3NzaC1yc2E=', `${signer.publicKey}AAAA`, signer.publicKey.replace(/^AAAAC/, 'AAAAD')])(
    '%j is none, and named',
    (text) => {
      expect(() => parsePublicKey(text)).toThrow(/is not a signer's public key; expected 68 characters/)
    },
  )
})

describe.skipIf(spawnSync('ssh-keygen', ['-?']).error !== undefined)('OpenSSH', () => {
  let folder: string
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'caretaker-ssh-'))
  })
  afterAll(() => rm(folder, { recursive: true, force: true }))

  test('believes what is signed here', async () => {
    await writeFile(join(folder, 'message'), message)
    await writeFile(join(folder, 'sig'), signer.signFile(namespace, message))
    await writeFile(join(folder, 'allowed'), `caretaker ssh-ed25519 ${signer.publicKey}\n`)
    const check = `ssh-keygen -Y verify -f allowed -I caretaker -n ${namespace} -s sig <`
    expect((await run('sh', ['-c', `${check} message`], { cwd: folder })).stdout).toMatch(/^Good/)
    await expect(run('sh', ['-c', `${check} sig`], { cwd: folder })).rejects.toThrow()
  })

  test('signs what is believed here', async () => {
    const { privateKey } = generateKeyPairSync('ed25519')
    await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(folder, 'key')])
    await writeFile(join(folder, 'theirs'), message)
    await run('ssh-keygen', ['-q', '-Y', 'sign', '-f', join(folder, 'key'), '-n', namespace, join(folder, 'theirs')])
    const publicKey = parsePublicKey(await readFile(join(folder, 'key.pub'), 'utf8'))
    expect(signerOfArmoured(await readFile(join(folder, 'theirs.sig'), 'utf8'), namespace, message)).toBe(publicKey)
    expect(verifyBytes(publicKey, namespace, message, signBytes(privateKey, namespace, message))).toBe(false)
    expect(verifyBytes(publicKeyText(privateKey), namespace, message, signBytes(privateKey, namespace, message))).toBe(true)
  })
})
