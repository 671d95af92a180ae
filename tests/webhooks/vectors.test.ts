import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { defineConfig, type PolicyInput } from '../../lib/config/index.ts'
import { fixedClock } from '../../lib/platform/clock.ts'
import type { Env } from '../../lib/platform/env.ts'
import { openSource } from '../../lib/webhooks/sources/index.ts'

/* Signatures that others have published, a file each, and what becomes of each when anything of it is changed. */

interface Vector {
  from: string
  source: string
  policy?: NonNullable<NonNullable<PolicyInput['webhooks']>['sources']>[string]
  env: Partial<Env>
  now?: string
  target?: string
  headers: Record<string, string>
  body: string
  /** `bad_request`: the signature is right, and what is signed is no event. */
  outcome: 'accepted' | 'bad_request'
  ids?: string[]
}

const folder = new URL('../vectors/webhooks/', import.meta.url)
const vectors = readdirSync(folder).map(
  (file) => [file.replace('.json', ''), JSON.parse(readFileSync(new URL(file, folder), 'utf8')) as Vector] as const,
)

async function outcome(
  { source: path, policy, env, now, target, headers, body }: Vector,
  bytes: Uint8Array = Buffer.from(body),
): Promise<string | string[]> {
  const config = defineConfig({ app: { name: 'Test' }, webhooks: policy === undefined ? {} : { sources: { [path]: policy } } })
  const source = await openSource(config, path)
  try {
    const clock = fixedClock(now ?? '2026-11-21T12:00:00Z')
    const request = { headers: new Headers(headers), body: bytes, ...(target === undefined ? {} : { target }) }
    return source.verify({ env: env as Env, config, clock }, request).events.map((event) => event.eventId)
  } catch (error) {
    return (error as { code: string }).code
  }
}

it('there are vectors of every scheme', () => {
  expect(new Set(vectors.map(([, { source }]) => source))).toEqual(new Set(['sms', 'email', 'partner', 'github']))
})

describe.each(vectors)('%s', (_name, vector) => {
  it('is as published', async () => {
    expect(await outcome(vector)).toEqual(vector.outcome === 'accepted' ? vector.ids : vector.outcome)
  })

  it('is refused with any byte of the body changed, added or taken away', async () => {
    const bytes = Buffer.from(vector.body)
    // Of a form it is the parameters that are signed, not how they are written.
    const form = vector.headers['content-type']?.includes('urlencoded') === true
    for (let at = 0; at < bytes.length; at += 1 + Math.floor(bytes.length / 80)) {
      if (form && !/[A-Za-z0-9]/.test(String.fromCharCode(bytes.readUInt8(at)))) continue
      const changed = Buffer.from(bytes)
      changed.writeUInt8(changed.readUInt8(at) ^ 1, at)
      const said = await outcome(vector, changed)
      if (form && new URLSearchParams(changed.toString()).toString() === new URLSearchParams(vector.body).toString()) continue
      expect([at, said]).toEqual([at, 'signature_invalid'])
    }
    expect(await outcome(vector, bytes.subarray(0, -1))).toBe('signature_invalid')
    expect(await outcome(vector, Buffer.concat([bytes, Buffer.from('x')]))).toBe('signature_invalid')
    expect(await outcome(vector, Buffer.concat([Buffer.from('\u{feff}'), bytes]))).toBe('signature_invalid')
    expect(await outcome(vector, Buffer.alloc(0))).toBe('signature_invalid')
  })

  it('is refused with any of its signature changed, missing, empty or sent twice', async () => {
    for (const [name, value] of Object.entries(vector.headers)) {
      if (!/signature|timestamp|-id$/.test(name)) continue
      for (const other of [
        '',
        `${value}, ${value}`,
        `${value}x`,
        value.slice(0, -2),
        value.replace(/([0-9a-f])([^0-9a-f]*)$/, (_all, last: string, rest: string) => (last === '1' ? '2' : '1') + rest),
      ]) {
        const said = await outcome({ ...vector, headers: { ...vector.headers, [name]: other } })
        expect([name, other, said]).toEqual([name, other, 'signature_invalid'])
      }
      const { [name]: _gone, ...rest } = vector.headers
      expect(await outcome({ ...vector, headers: rest })).toBe('signature_invalid')
    }
  })

  it('is refused with another secret, and nothing is accepted without one', async () => {
    const other = Object.fromEntries(
      Object.entries(vector.env).map(([name, value]) => [
        name,
        name === 'SENDGRID_WEBHOOK_PUBLIC_KEY'
          ? 'MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEqTxd43gyp8IOEto2LdIfjRQrIbsd4SXZkLW6jDutdhXSJCWHw8REntlo7aNDthvj+y7GjUuFDb/R1NGe1OPzpA=='
          : name === 'PUBLIC_URL'
            ? value
            : String(value).replace(/[45]|MfK|Secret/, 'xAx'),
      ]),
    )
    expect(await outcome({ ...vector, env: other })).toBe('signature_invalid')
    expect(await outcome({ ...vector, env: {} })).toBe('not_configured')
  })

  it('is refused at another address, where the address is signed', async () => {
    if (vector.target === undefined) return
    for (const target of [`${vector.target}&x=1`, vector.target.replace('foo=1', 'foo=2'), vector.target.replace('/myapp', '/yourapp')])
      expect(await outcome({ ...vector, target })).toBe('signature_invalid')
    expect(await outcome({ ...vector, env: { ...vector.env, PUBLIC_URL: 'https://another.example' } })).toBe('signature_invalid')
  })

  it('is refused too early and too late, where the time is signed', async () => {
    if (vector.now === undefined) return
    for (const shift of [-86_400_000 * 3, 86_400_000 * 3])
      expect(await outcome({ ...vector, now: new Date(Date.parse(vector.now) + shift).toISOString() })).toBe('signature_invalid')
  })
})
