import { lookup } from 'node:dns/promises'
import { type RequestOptions as HttpOptions, request as httpRequest, type IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { BlockList, isIP } from 'node:net'
import { CaretakerError } from './errors.ts'

/*
 * Requests to addresses that somebody else wrote down: subscribers, callbacks, links in what was sent. The name is
 * resolved once, every address it has must be public, the connection is made to exactly those, and no redirect is
 * followed. A name that resolves differently the second time (DNS rebinding) is not asked a second time.
 */

export interface ResolvedAddress {
  address: string
  family: number
}

export interface GuardedRequest {
  url: string
  method: 'GET' | 'POST'
  headers?: Record<string, string>
  body?: Uint8Array
  /** The whole of it: resolving, connecting, sending, reading. */
  timeoutMs: number
  signal?: AbortSignal
  /** For addresses that are private on purpose, and for http:// to them. */
  allowPrivate?: boolean
  /** Answers that are longer are cut off here. Default 64 KiB. */
  answerLimitBytes?: number
  resolve?: (hostname: string) => Promise<ResolvedAddress[]>
}

export interface GuardedAnswer {
  status: number
  headers: IncomingMessage['headers']
  body: Buffer
}

const defaultAnswerLimit = 64 * 1024

/**
 * @returns whatever was answered, redirects too: following them is up to nobody
 * @throws {CaretakerError} `address_refused` for an address that may not be called, `timeout`, or `upstream_failed` where no answer came
 */
export async function guardedRequest(given: GuardedRequest): Promise<GuardedAnswer> {
  const url = checkedUrl(given.url, given.allowPrivate === true)
  const timeout = AbortSignal.timeout(given.timeoutMs)
  const signal = given.signal === undefined ? timeout : AbortSignal.any([timeout, given.signal])
  try {
    const addresses = await unlessAborted(publicAddresses(url, given), signal)
    return await send(url, addresses, given, signal)
  } catch (cause) {
    if (cause instanceof CaretakerError) throw cause
    if (timeout.aborted) throw new CaretakerError('timeout', `${url.host} did not answer within ${given.timeoutMs} ms.`)
    // The system's own code says enough (ECONNREFUSED, CERT_HAS_EXPIRED); its message may quote what was sent.
    const code = (cause as { code?: unknown } | null)?.code
    throw new CaretakerError('upstream_failed', `${url.host} did not answer${typeof code === 'string' ? ` (${code})` : ''}.`, { cause })
  }
}

/** @throws {CaretakerError} `address_refused` */
function checkedUrl(text: string, allowPrivate: boolean): URL {
  if (!URL.canParse(text)) throw refused('it is not a URL')
  const url = new URL(text)
  if (url.protocol !== 'https:' && !(allowPrivate && url.protocol === 'http:'))
    throw refused(`it begins with ${url.protocol}//, not https://`)
  if (url.username !== '' || url.password !== '') throw refused('it carries a user name or password')
  return url
}

async function publicAddresses(url: URL, given: GuardedRequest): Promise<ResolvedAddress[]> {
  // The URL parser has made dotted quads of every other notation (0x7f.1, 2130706433).
  const literal = url.hostname.replace(/^\[|\]$/g, '')
  const family = isIP(literal)
  const resolve = given.resolve ?? ((hostname) => lookup(hostname, { all: true }))
  const addresses = family === 0 ? await resolve(url.hostname) : [{ address: literal, family }]
  if (addresses.length === 0) throw new CaretakerError('upstream_failed', `${url.host} has no address.`)
  if (given.allowPrivate !== true && !addresses.every(({ address }) => isPublicAddress(address)))
    throw refused(`${url.hostname} is an address of a private network, or has one`)
  return addresses
}

function send(url: URL, addresses: readonly ResolvedAddress[], given: GuardedRequest, signal: AbortSignal): Promise<GuardedAnswer> {
  return new Promise((resolve, reject) => {
    const options: HttpOptions = {
      method: given.method,
      headers: { ...given.headers, ...(given.body === undefined ? {} : { 'content-length': String(given.body.byteLength) }) },
      // A connection of its own: one that is kept alive may lead to where the name pointed before.
      agent: false,
      signal,
      lookup: (_hostname, { all }, callback) => {
        const [first] = addresses
        if (all === true) callback(null, [...addresses])
        else callback(null, first?.address ?? '', first?.family)
      },
    }
    const request = url.protocol === 'https:' ? httpsRequest(url, options) : httpRequest(url, options)
    request.on('error', reject)
    request.on('socket', (socket) => {
      socket.once('connect', () => {
        // What was vetted is what was connected to: this can only fail if the two above do not hold together.
        if (given.allowPrivate !== true && !isPublicAddress(socket.remoteAddress ?? ''))
          request.destroy(refused('the connection led elsewhere'))
      })
    })
    request.on('response', (response) => {
      const chunks: Buffer[] = []
      let length = 0
      const limit = given.answerLimitBytes ?? defaultAnswerLimit
      const done = () =>
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks).subarray(0, limit) })
      response.on('error', reject)
      response.on('end', done)
      response.on('data', (chunk: Buffer) => {
        chunks.push(chunk)
        length += chunk.length
        if (length < limit) return
        done()
        response.destroy()
      })
    })
    request.end(given.body)
  })
}

// https://www.iana.org/assignments/iana-ipv4-special-registry: everything that is not globally reachable, and multicast.
const reserved4 = [
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.0.2.0/24',
  '192.88.99.0/24',
  '192.168.0.0/16',
  '198.18.0.0/15',
  '198.51.100.0/24',
  '203.0.113.0/24',
  '224.0.0.0/4',
  '240.0.0.0/4',
]
// https://www.iana.org/assignments/iana-ipv6-special-registry: of global unicast, what leads elsewhere or nowhere.
const global6 = ['2000::/3']
const reserved6 = ['2001::/23', '2001:db8::/32', '2002::/16', '3fff::/20']

const lists = new Map<readonly string[], BlockList>()

/** The list is made when it is first asked: most functions never do. */
function isIn(networks: readonly string[], address: string, family: 'ipv4' | 'ipv6'): boolean {
  const list = lists.get(networks) ?? new BlockList()
  if (!lists.has(networks)) {
    for (const network of networks) {
      const [base = '', prefix] = network.split('/')
      list.addSubnet(base, Number(prefix), family)
    }
    lists.set(networks, list)
  }
  return list.check(address, family)
}

/** Whether an address is reachable from everywhere, so that reaching it gives nobody more than they have. */
export function isPublicAddress(address: string): boolean {
  const family = isIP(address)
  if (family === 4) return !isIn(reserved4, address, 'ipv4')
  if (family !== 6 || address.includes('%')) return false
  const embedded = embedded4(address)
  if (embedded !== undefined) return isPublicAddress(embedded)
  return isIn(global6, address, 'ipv6') && !isIn(reserved6, address, 'ipv6')
}

/** The IPv4 address in a mapped (::ffff:0:0/96) or translated (NAT64, 64:ff9b::/96) one. */
function embedded4(address: string): string | undefined {
  // The URL parser writes it in one way only.
  const canonical = new URL(`http://[${address}]`).hostname.slice(1, -1)
  const match = /^(?:::ffff:|64:ff9b::)([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(canonical) ?? /^64:ff9b::()([0-9a-f]{1,4})$/.exec(canonical)
  if (match === null) return undefined
  const [high, low] = [Number.parseInt(match[1] || '0', 16), Number.parseInt(match[2] ?? '0', 16)]
  return [high >> 8, high & 255, low >> 8, low & 255].join('.')
}

function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason)
    if (signal.aborted) abort()
    signal.addEventListener('abort', abort, { once: true })
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort))
  })
}

function refused(why: string): CaretakerError {
  return new CaretakerError('address_refused', `The address may not be called: ${why}.`)
}
