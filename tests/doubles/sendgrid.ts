import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto'

/** A key pair as SendGrid makes one for an endpoint: `publicKey` is what Mail Settings shows. */
export function sendgridKeys(): { publicKey: string; privateKey: KeyObject } {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return { publicKey: publicKey.export({ format: 'der', type: 'spki' }).toString('base64'), privateKey }
}

/** The headers of a signed event webhook. `at` in seconds since 1970. */
export function signSendgrid(body: Uint8Array | string, privateKey: KeyObject, at: number): Record<string, string> {
  const signature = sign(
    'sha256',
    Buffer.concat([Buffer.from(String(at)), typeof body === 'string' ? Buffer.from(body) : body]),
    privateKey,
  )
  return {
    'content-type': 'application/json',
    'x-twilio-email-event-webhook-signature': signature.toString('base64'),
    'x-twilio-email-event-webhook-timestamp': String(at),
  }
}
