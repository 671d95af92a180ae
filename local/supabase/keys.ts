import { createPrivateKey, createPublicKey, generateKeyPairSync, type JsonWebKey, randomUUID, sign, verify } from 'node:crypto'
import type { Clock } from '../../lib/platform/clock.ts'

/** What a token says of its bearer. */
export interface Claims {
  role: 'anon' | 'authenticated' | 'service_role'
  sub?: string
  session_id?: string
  email?: string
  exp: number
  [claim: string]: unknown
}

/** A P-256 private key with its id, as kept in the secrets file. */
export interface SigningKey extends JsonWebKey {
  kid: string
}

export interface Tokens {
  /** The body of /auth/v1/.well-known/jwks.json. */
  readonly jwks: { keys: JsonWebKey[] }
  /** A JWT with `iat` and `exp` set. */
  sign(claims: Record<string, unknown>, lifetimeSeconds: number): string
  /** The claims, or null for anything but an unexpired token of this key. */
  verify(token: string): Claims | null
}

export function createSigningKey(): SigningKey {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return { ...privateKey.export({ format: 'jwk' }), kid: randomUUID() }
}

/** Signs with ES256, as new Supabase projects do: whoever has the public half can verify without a shared secret. */
export function createTokens(key: SigningKey, clock: Clock): Tokens {
  const privateKey = createPrivateKey({ key, format: 'jwk' })
  const publicKey = createPublicKey(privateKey)
  const header = encode({ alg: 'ES256', typ: 'JWT', kid: key.kid })
  const seconds = () => Math.floor(clock.now().getTime() / 1000)
  return {
    jwks: { keys: [{ ...publicKey.export({ format: 'jwk' }), alg: 'ES256', use: 'sig', key_ops: ['verify'], kid: key.kid }] },
    sign(claims, lifetimeSeconds) {
      const signed = `${header}.${encode({ ...claims, iat: seconds(), exp: seconds() + lifetimeSeconds })}`
      const signature = sign('sha256', Buffer.from(signed), { key: privateKey, dsaEncoding: 'ieee-p1363' })
      return `${signed}.${signature.toString('base64url')}`
    },
    verify(token) {
      const [head, body, signature, ...rest] = token.split('.')
      if (head !== header || body === undefined || signature === undefined || rest.length > 0) return null
      const genuine = verify(
        'sha256',
        Buffer.from(`${head}.${body}`),
        { key: publicKey, dsaEncoding: 'ieee-p1363' },
        Buffer.from(signature, 'base64url'),
      )
      if (!genuine) return null
      const claims = JSON.parse(Buffer.from(body, 'base64url').toString()) as Claims
      return claims.exp > seconds() ? claims : null
    },
  }
}

function encode(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url')
}
