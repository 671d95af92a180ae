import {
  createHmac,
  createPrivateKey,
  createPublicKey,
  sign as edSign,
  verify as edVerify,
  type KeyObject,
  timingSafeEqual,
} from 'node:crypto'
import { CaretakerError } from './errors.ts'

// https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md: a signature over
// "ID.TIMESTAMP.BODY", by HMAC-SHA256 (v1, whsec_…) or ed25519 (v1a, whsk_… signs, whpk_… verifies).

/** One parsed secret. A verifying key cannot sign; every other one can do both. */
export type WebhookKey =
  | { readonly scheme: 'v1'; readonly secret: Buffer }
  | { readonly scheme: 'v1a'; readonly signing: KeyObject | undefined; readonly verifying: KeyObject }

export interface SignedHeaders {
  'webhook-id': string
  /** Whole seconds since 1970. */
  'webhook-timestamp': string
  /** One signature a key, separated by spaces: while a secret is rotated the receiver may hold either. */
  'webhook-signature': string
}

export interface WebhookMessage {
  /** Without "." and spaces: it is joined to the timestamp by one. The same for every attempt. */
  id: string
  /** Of this attempt, not of what it speaks of. */
  timestamp: Date
  /** The bytes as they are sent. */
  body: Uint8Array | string
}

const shortestSecretBytes = 24
const defaultToleranceSeconds = 300
/** A handful of signatures; an ed25519 one has 92 characters. */
const longestHeader = 4_096
const idPattern = /^[\x21-\x2b\x2d\x2f-\x7e]{1,255}$/

// RFC 8410: what DER puts before the 32 bytes of an ed25519 key.
const privatePrefix = Buffer.from('302e020100300506032b657004220420', 'hex')
const publicPrefix = Buffer.from('302a300506032b6570032100', 'hex')

/**
 * The keys of a setting: `whsec_…`, `whsk_…` or `whpk_…`, several separated by commas while one is rotated.
 * @param from the variable they come from, for messages, which never show a secret
 * @throws {CaretakerError} `not_configured` when there is none, or naming the entry that is not one
 */
export function parseWebhookSecrets(value: string | undefined, from: string): WebhookKey[] {
  const entries = (value ?? '')
    .split(',')
    .map((entry) => entry.trim())
    .filter((entry) => entry !== '')
  if (entries.length === 0)
    throw new CaretakerError('not_configured', `${from} is not set; expected whsec_ and the base64 of 24 bytes or more.`)
  return entries.map((entry, index) => parseKey(entry, `Entry ${index + 1} of ${from}`))
}

function parseKey(entry: string, which: string): WebhookKey {
  const match = /^(whsec|whsk|whpk)_([A-Za-z0-9+/]+={0,2})$/.exec(entry)
  if (match === null)
    throw new CaretakerError(
      'not_configured',
      `${which} is not a secret of Standard Webhooks; expected whsec_, whsk_ or whpk_ followed by base64.`,
    )
  const [, kind, base64] = match as unknown as [string, string, string]
  const bytes = Buffer.from(base64, 'base64')
  if (kind === 'whsec') {
    if (bytes.length < shortestSecretBytes)
      throw new CaretakerError('not_configured', `${which} has ${bytes.length} bytes; expected at least ${shortestSecretBytes}.`)
    return { scheme: 'v1', secret: bytes }
  }
  // A secret key is written as its 32-byte seed, or as seed and public key in one.
  if (bytes.length !== 32 && !(kind === 'whsk' && bytes.length === 64))
    throw new CaretakerError('not_configured', `${which} has ${bytes.length} bytes; expected the 32 of an ed25519 key.`)
  if (kind === 'whpk')
    return {
      scheme: 'v1a',
      signing: undefined,
      verifying: createPublicKey({ key: Buffer.concat([publicPrefix, bytes]), format: 'der', type: 'spki' }),
    }
  const signing = createPrivateKey({ key: Buffer.concat([privatePrefix, bytes.subarray(0, 32)]), format: 'der', type: 'pkcs8' })
  return { scheme: 'v1a', signing, verifying: createPublicKey(signing) }
}

/**
 * The three headers of one attempt, signed with every key.
 * @throws {CaretakerError} `invalid_input` for an id that could be taken for another message, `not_configured` for a key that only verifies
 */
export function signWebhook(keys: readonly WebhookKey[], message: WebhookMessage): SignedHeaders {
  if (!idPattern.test(message.id))
    throw new CaretakerError(
      'invalid_input',
      'The id of a webhook is not usable; expected 1 to 255 printable characters without dot, comma and space.',
    )
  if (keys.length === 0) throw new CaretakerError('not_configured', 'There is no key to sign a webhook with.')
  const timestamp = String(Math.floor(message.timestamp.getTime() / 1_000))
  const content = signedContent(message.id, timestamp, message.body)
  return {
    'webhook-id': message.id,
    'webhook-timestamp': timestamp,
    'webhook-signature': keys.map((key) => `${key.scheme},${signatureOf(key, content).toString('base64')}`).join(' '),
  }
}

function signatureOf(key: WebhookKey, content: Uint8Array): Buffer {
  if (key.scheme === 'v1') return createHmac('sha256', key.secret).update(content).digest()
  if (key.signing === undefined)
    throw new CaretakerError('not_configured', 'A whpk_ key verifies webhooks and cannot sign them; expected whsk_ or whsec_.')
  return edSign(null, content, key.signing)
}

export interface VerifyOptions {
  now: Date
  /** How far the timestamp may be from now, in both directions. Default 300. */
  toleranceSeconds?: number
}

/**
 * Checks a message as it was received. Headers may go by `webhook-*` or by Svix's older `svix-*`.
 * @returns the message's id and the attempt's time
 * @throws {CaretakerError} `signature_invalid` for whatever is missing, malformed, sent twice, too old, ahead of time or signed with
 * another key; `not_configured` when there is no key: without one nothing is ever accepted
 */
export function verifyWebhook(
  keys: readonly WebhookKey[],
  received: { headers: Pick<Headers, 'get'>; body: Uint8Array },
  options: VerifyOptions,
): { id: string; timestamp: Date } {
  if (keys.length === 0) throw new CaretakerError('not_configured', 'There is no key to verify a webhook with.')
  const prefix = received.headers.get('webhook-id') === null && received.headers.get('svix-id') !== null ? 'svix' : 'webhook'
  const header = (name: string): string => {
    const value = received.headers.get(`${prefix}-${name}`)
    if (value === null || value === '') throw invalid(`the header ${prefix}-${name} is missing`)
    if (value.length > longestHeader)
      throw invalid(`the header ${prefix}-${name} has ${value.length} characters, accepted are ${longestHeader}`)
    return value
  }
  // A header that was sent twice arrives as one, joined by a comma: no pattern below accepts one.
  const id = header('id')
  if (!idPattern.test(id)) throw invalid(`the header ${prefix}-id is malformed or was sent twice`)
  const seconds = header('timestamp')
  if (!/^[1-9]\d{0,11}$/.test(seconds)) throw invalid(`the header ${prefix}-timestamp is not a whole number of seconds, or was sent twice`)
  const signatures = parseSignatures(header('signature'), prefix)

  // Before any hashing: a flood of replays then costs none.
  const tolerance = options.toleranceSeconds ?? defaultToleranceSeconds
  const age = Math.floor(options.now.getTime() / 1_000) - Number(seconds)
  if (age > tolerance) throw invalid(`its timestamp is ${age} seconds old, accepted are ${tolerance}`)
  if (-age > tolerance) throw invalid(`its timestamp is ${-age} seconds ahead, accepted are ${tolerance}`)

  const content = signedContent(id, seconds, received.body)
  let matched = false
  for (const key of keys)
    for (const signature of signatures) {
      // All are compared, whatever was found: the time says nothing about which one it was.
      if (signature.scheme === key.scheme) matched = matches(key, content, signature.bytes) || matched
    }
  if (!matched) throw invalid('no signature matches the body')
  return { id, timestamp: new Date(Number(seconds) * 1_000) }
}

function parseSignatures(header: string, prefix: string): { scheme: 'v1' | 'v1a'; bytes: Buffer }[] {
  const signatures: { scheme: 'v1' | 'v1a'; bytes: Buffer }[] = []
  for (const item of header.split(' ')) {
    const match = /^([a-z0-9]+),([A-Za-z0-9+/]+={0,2})$/.exec(item)
    if (match === null) throw invalid(`the header ${prefix}-signature is malformed or was sent twice`)
    const [, scheme, base64] = match as unknown as [string, string, string]
    // Schemes to come are for receivers to come.
    if (scheme !== 'v1' && scheme !== 'v1a') continue
    const bytes = Buffer.from(base64, 'base64')
    if (bytes.length === (scheme === 'v1' ? 32 : 64)) signatures.push({ scheme, bytes })
  }
  if (signatures.length === 0) throw invalid(`the header ${prefix}-signature has no usable v1 or v1a signature`)
  return signatures
}

function matches(key: WebhookKey, content: Uint8Array, signature: Buffer): boolean {
  if (key.scheme === 'v1') return timingSafeEqual(createHmac('sha256', key.secret).update(content).digest(), signature)
  return edVerify(null, content, key.verifying, signature)
}

function signedContent(id: string, timestamp: string, body: Uint8Array | string): Buffer {
  return Buffer.concat([Buffer.from(`${id}.${timestamp}.`), typeof body === 'string' ? Buffer.from(body) : body])
}

function invalid(why: string): CaretakerError {
  return new CaretakerError('signature_invalid', `The webhook's signature is not accepted: ${why}.`)
}
