import { createHash, createHmac, randomUUID, timingSafeEqual } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

export type S3Operation =
  | 'PutObject'
  | 'GetObject'
  | 'HeadObject'
  | 'DeleteObject'
  | 'ListObjectsV2'
  | 'ListMultipartUploads'
  | 'CreateMultipartUpload'
  | 'UploadPart'
  | 'CompleteMultipartUpload'
  | 'AbortMultipartUpload'

/**
 * What goes wrong, once: an answer instead of the work; the connection cut in the middle of the request (`cut`), after
 * the work was done (`deaf`) or in the middle of the answer (`truncate`); no answer at all (`hang`); an answer that comes
 * only when the promise resolves (`slow`); fewer bytes kept than were acknowledged (`lose`); or an error behind a 200.
 */
export type Fault =
  | { on: S3Operation; answer: { status: number; code: string; headers?: Record<string, string> } }
  | { on: S3Operation; break: 'cut' | 'deaf' | 'truncate' | 'hang' | 'lose' | 'error-in-200' }
  | { on: S3Operation; slow: Promise<void> }

interface Stored {
  bytes: Buffer
  etag: string
  headers: Record<string, string>
  modifiedAt: Date
}

export interface S3Server {
  endpoint: string
  bucket: string
  accessKeyId: string
  secretAccessKey: string
  region: string
  /** What is visible, by name. */
  objects: Map<string, Stored>
  /** Multipart uploads neither completed nor aborted. */
  uploads: Map<
    string,
    { name: string; startedAt: Date; headers: Record<string, string>; parts: Map<number, { bytes: Buffer; etag: string }> }
  >
  /** The operations answered so far, refused ones too. */
  log: S3Operation[]
  fail(...faults: Fault[]): void
  close(): Promise<void>
}

export interface S3ServerOptions {
  /** Keys a page of a listing holds at most. */
  pageSize?: number
  /** How many parts an upload may have; some stores allow 1,000. */
  mostParts?: number
}

/**
 * A small S3 in memory over real HTTP: one bucket, path-style. It checks every signature with code of its own, wants
 * equal parts of at least 5 MiB as R2 does, and honours If-None-Match and If-Match.
 */
export async function startS3Server(options: S3ServerOptions = {}): Promise<S3Server> {
  const faults: Fault[] = []
  const state: Omit<S3Server, 'endpoint' | 'fail' | 'close'> = {
    bucket: 'caretaker-test',
    accessKeyId: `AKIA${createHash('sha256').update(randomUUID()).digest('hex').slice(0, 16).toUpperCase()}`,
    secretAccessKey: createHash('sha256').update(randomUUID()).digest('base64'),
    region: 'test-region-1',
    objects: new Map(),
    uploads: new Map(),
    log: [],
  }
  const server = createServer((request, response) => {
    handle(state, faults, options, request, response).catch((error: unknown) => {
      if (error instanceof Refusal) return error.send(response)
      response.destroy()
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    ...state,
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    fail: (...more) => void faults.push(...more),
    close: () => closeServer(server),
  }
}

function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve())
    server.closeAllConnections()
  })
}

class Refusal extends Error {
  readonly status: number
  readonly code: string
  readonly headers: Record<string, string>

  constructor(status: number, code: string, headers: Record<string, string> = {}) {
    super(code)
    this.status = status
    this.code = code
    this.headers = headers
  }

  send(response: ServerResponse): void {
    const body = `<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>${this.code}</Code><Message>Refused.</Message></Error>`
    response.writeHead(this.status, { 'content-type': 'application/xml', ...this.headers }).end(body)
  }
}

type State = Omit<S3Server, 'endpoint' | 'fail' | 'close'>

async function handle(
  state: State,
  faults: Fault[],
  options: S3ServerOptions,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const url = new URL(request.url ?? '/', `http://${request.headers.host}`)
  const [bucket, ...rest] = url.pathname.slice(1).split('/').map(decodeURIComponent)
  const name = rest.join('/')
  const operation = operationOf(request.method ?? '', name, url.searchParams)
  const index = faults.findIndex((fault) => fault.on === operation)
  const fault = index < 0 ? undefined : faults.splice(index, 1)[0]
  const broken = fault !== undefined && 'break' in fault ? fault.break : undefined
  state.log.push(operation)

  if (broken === 'hang') return
  if (broken === 'cut') {
    request.once('data', () => request.destroy())
    if (request.method === 'GET' || request.method === 'HEAD') request.destroy()
    return
  }
  if (request.method === 'PUT' && request.headers['content-length'] === undefined) throw new Refusal(411, 'MissingContentLength')
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  const body = Buffer.concat(chunks)
  if (fault !== undefined && 'slow' in fault) await fault.slow
  if (fault !== undefined && 'answer' in fault) throw new Refusal(fault.answer.status, fault.answer.code, fault.answer.headers)
  verifySignature(state, request, url, body)
  if (bucket !== state.bucket) throw new Refusal(404, 'NoSuchBucket')
  if (broken === 'error-in-200') throw new Refusal(200, 'InternalError')

  const answer = operations[operation]({
    state,
    options,
    name,
    query: url.searchParams,
    headers: request.headers as Record<string, string>,
    body: broken === 'lose' ? body.subarray(0, body.length >> 1) : body,
  })
  if (broken === 'deaf') {
    request.socket.destroy()
    return
  }
  response.writeHead(answer.status, answer.headers)
  if (broken === 'truncate') {
    response.write((answer.body ?? Buffer.alloc(0)).subarray(0, (answer.body?.length ?? 0) >> 1), () => response.destroy())
    return
  }
  response.end(request.method === 'HEAD' ? undefined : answer.body)
}

function operationOf(method: string, name: string, query: URLSearchParams): S3Operation {
  if (name === '' && method === 'GET' && query.get('list-type') === '2') return 'ListObjectsV2'
  if (name === '' && method === 'GET' && query.has('uploads')) return 'ListMultipartUploads'
  if (name === '') throw new Refusal(501, 'NotImplemented')
  if (method === 'POST' && query.has('uploads')) return 'CreateMultipartUpload'
  if (method === 'POST' && query.has('uploadId')) return 'CompleteMultipartUpload'
  if (method === 'DELETE') return query.has('uploadId') ? 'AbortMultipartUpload' : 'DeleteObject'
  if (method === 'PUT') return query.has('partNumber') ? 'UploadPart' : 'PutObject'
  if (method === 'GET') return 'GetObject'
  if (method === 'HEAD') return 'HeadObject'
  throw new Refusal(501, 'NotImplemented')
}

/** From the specification, not from the client: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html */
function verifySignature(state: State, request: IncomingMessage, url: URL, body: Buffer): void {
  if (url.searchParams.has('X-Amz-Signature')) {
    verifyPresigned(state, request, url)
    return
  }
  const header = request.headers.authorization ?? ''
  const match =
    /^AWS4-HMAC-SHA256 Credential=([^/]+)\/(\d{8})\/([^/]+)\/s3\/aws4_request,\s*SignedHeaders=([^,]+),\s*Signature=([0-9a-f]{64})$/.exec(
      header,
    )
  if (match === null) throw new Refusal(403, 'AccessDenied')
  const [, keyId, day, region, signedNames, signature] = match as unknown as string[]
  if (keyId !== state.accessKeyId) throw new Refusal(403, 'InvalidAccessKeyId')
  if (region !== state.region) throw new Refusal(400, 'AuthorizationHeaderMalformed')
  const time = String(request.headers['x-amz-date'])
  const at = Date.parse(time.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, '$1-$2-$3T$4:$5:$6Z'))
  if (!time.startsWith(day ?? '-') || !(Math.abs(Date.now() - at) < 900_000)) throw new Refusal(403, 'RequestTimeTooSkewed')
  const names = (signedNames ?? '').split(';')
  const mustBeSigned = Object.keys(request.headers).filter((one) => one === 'host' || one.startsWith('x-amz-'))
  if (names.join() !== [...names].sort().join() || mustBeSigned.some((one) => !names.includes(one))) throw new Refusal(403, 'AccessDenied')
  const hash = createHash('sha256').update(body).digest('hex')
  if (request.headers['x-amz-content-sha256'] !== hash) throw new Refusal(400, 'XAmzContentSHA256Mismatch')

  const strict = (text: string) => encodeURIComponent(text).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)
  const path = url.pathname
    .split('/')
    .map((segment) => strict(decodeURIComponent(segment)))
    .join('/')
  const query = [...url.searchParams]
    .map(([k, v]) => `${strict(k)}=${strict(v)}`)
    .sort()
    .join('&')
  const lines = names.map((one) => `${one}:${String(request.headers[one]).trim()}\n`).join('')
  const canonical = `${request.method}\n${path}\n${query}\n${lines}\n${signedNames}\n${hash}`
  const toSign = `AWS4-HMAC-SHA256\n${time}\n${day}/${region}/s3/aws4_request\n${createHash('sha256').update(canonical).digest('hex')}`
  const mac = (key: string | Buffer, text: string) => createHmac('sha256', key).update(text).digest()
  const key = mac(mac(mac(mac(`AWS4${state.secretAccessKey}`, day ?? ''), region ?? ''), 's3'), 'aws4_request')
  if (!timingSafeEqual(mac(key, toSign), Buffer.from(signature ?? '', 'hex'))) throw new Refusal(403, 'SignatureDoesNotMatch')
}

/** https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html */
function verifyPresigned(state: State, request: IncomingMessage, url: URL): void {
  const asked = (name: string) => url.searchParams.get(`X-Amz-${name}`) ?? ''
  const [keyId = '', day = '', region = '', service, kind] = asked('Credential').split('/')
  if (asked('Algorithm') !== 'AWS4-HMAC-SHA256' || service !== 's3' || kind !== 'aws4_request') throw new Refusal(403, 'AccessDenied')
  if (keyId !== state.accessKeyId) throw new Refusal(403, 'InvalidAccessKeyId')
  if (region !== state.region) throw new Refusal(400, 'AuthorizationQueryParametersError')
  const at = Date.parse(asked('Date').replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, '$1-$2-$3T$4:$5:$6Z'))
  const seconds = Number(asked('Expires'))
  if (!(seconds >= 1 && seconds <= 604_800)) throw new Refusal(400, 'AuthorizationQueryParametersError')
  if (!(Date.now() < at + seconds * 1_000)) throw new Refusal(403, 'AccessDenied')
  const strict = (text: string) => encodeURIComponent(text).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)
  const query = [...url.searchParams]
    .filter(([name]) => name !== 'X-Amz-Signature')
    .map(([k, v]) => `${strict(k)}=${strict(v)}`)
    .sort()
    .join('&')
  const path = url.pathname
    .split('/')
    .map((segment) => strict(decodeURIComponent(segment)))
    .join('/')
  const canonical = `${request.method}\n${path}\n${query}\nhost:${request.headers.host}\n\nhost\nUNSIGNED-PAYLOAD`
  const toSign = `AWS4-HMAC-SHA256\n${asked('Date')}\n${day}/${region}/s3/aws4_request\n${createHash('sha256').update(canonical).digest('hex')}`
  const mac = (key: string | Buffer, text: string) => createHmac('sha256', key).update(text).digest()
  const key = mac(mac(mac(mac(`AWS4${state.secretAccessKey}`, day), region), 's3'), 'aws4_request')
  if (mac(key, toSign).toString('hex') !== asked('Signature')) throw new Refusal(403, 'SignatureDoesNotMatch')
}

interface Asked {
  state: State
  options: S3ServerOptions
  name: string
  query: URLSearchParams
  headers: Record<string, string>
  body: Buffer
}

interface Answer {
  status: number
  headers?: Record<string, string>
  body?: Buffer
}

const operations: Record<S3Operation, (asked: Asked) => Answer> = {
  PutObject({ state, name, headers, body }) {
    precondition(state, name, headers)
    return { status: 200, headers: { etag: store(state, name, body, keptHeaders(headers)) } }
  },
  GetObject({ state, name, headers }) {
    const object = state.objects.get(name)
    if (object === undefined) throw new Refusal(404, 'NoSuchKey')
    if (headers['if-match'] !== undefined && headers['if-match'] !== object.etag) throw new Refusal(412, 'PreconditionFailed')
    const range = /^bytes=(\d+)-(\d+)$/.exec(headers.range ?? '')
    if (range === null) return { status: 200, headers: described(object, object.bytes.length), body: object.bytes }
    const start = Number(range[1])
    if (start >= object.bytes.length) throw new Refusal(416, 'InvalidRange')
    const body = object.bytes.subarray(start, Number(range[2]) + 1)
    return {
      status: 206,
      headers: { ...described(object, body.length), 'content-range': `bytes ${start}-${start + body.length - 1}/${object.bytes.length}` },
      body,
    }
  },
  HeadObject({ state, name }) {
    const object = state.objects.get(name)
    if (object === undefined) throw new Refusal(404, 'NoSuchKey')
    return { status: 200, headers: described(object, object.bytes.length) }
  },
  DeleteObject({ state, name }) {
    state.objects.delete(name)
    return { status: 204 }
  },
  ListObjectsV2({ state, options, query }) {
    const prefix = query.get('prefix') ?? ''
    const after = Buffer.from(query.get('continuation-token') ?? '', 'base64').toString()
    const names = [...state.objects.keys()].filter((name) => name.startsWith(prefix) && name > after).sort()
    const page = names.slice(0, options.pageSize ?? 1_000)
    const last = page.at(-1)
    const more = last !== undefined && page.length < names.length
    const entries = page.map((name) => {
      const object = state.objects.get(name) as Stored
      return `<Contents><Key>${escapeXml(name)}</Key><LastModified>${object.modifiedAt.toISOString()}</LastModified><ETag>${escapeXml(object.etag)}</ETag><Size>${object.bytes.length}</Size></Contents>`
    })
    const token = more ? `<NextContinuationToken>${Buffer.from(last).toString('base64')}</NextContinuationToken>` : ''
    return xml(`<ListBucketResult><IsTruncated>${more}</IsTruncated>${token}${entries.join('')}</ListBucketResult>`)
  },
  ListMultipartUploads({ state, query }) {
    const uploads = [...state.uploads].filter(([, upload]) => upload.name.startsWith(query.get('prefix') ?? ''))
    const entries = uploads.map(
      ([id, { name, startedAt }]) =>
        `<Upload><Key>${escapeXml(name)}</Key><UploadId>${id}</UploadId><Initiated>${startedAt.toISOString()}</Initiated></Upload>`,
    )
    return xml(`<ListMultipartUploadsResult>${entries.join('')}</ListMultipartUploadsResult>`)
  },
  CreateMultipartUpload({ state, name, headers }) {
    const id = randomUUID()
    state.uploads.set(id, { name, startedAt: new Date(), headers: keptHeaders(headers), parts: new Map() })
    return xml(`<InitiateMultipartUploadResult><UploadId>${id}</UploadId></InitiateMultipartUploadResult>`)
  },
  UploadPart({ state, options, name, query, body }) {
    const upload = uploadOf(state, name, query)
    const number = Number(query.get('partNumber'))
    if (!(number >= 1 && number <= (options.mostParts ?? 10_000))) throw new Refusal(400, 'InvalidArgument')
    const etag = etagOf(body)
    upload.parts.set(number, { bytes: body, etag })
    return { status: 200, headers: { etag } }
  },
  CompleteMultipartUpload({ state, name, query, headers, body }) {
    const upload = uploadOf(state, name, query)
    const wanted = [...body.toString().matchAll(/<Part><PartNumber>(\d+)<\/PartNumber><ETag>([^<]+)<\/ETag><\/Part>/g)]
    const parts = wanted.map(([, number, etag], index) => {
      const part = upload.parts.get(Number(number))
      if (Number(number) !== index + 1 || part === undefined || part.etag !== etag?.replaceAll('&quot;', '"'))
        throw new Refusal(400, 'InvalidPart')
      return part.bytes
    })
    if (parts.length === 0) throw new Refusal(400, 'MalformedXML')
    if (parts.slice(0, -1).some((part) => part.length < 5 * 1_048_576)) throw new Refusal(400, 'EntityTooSmall')
    if (parts.slice(0, -1).some((part) => part.length !== parts[0]?.length)) throw new Refusal(400, 'InvalidPart')
    precondition(state, name, headers)
    store(state, name, Buffer.concat(parts), upload.headers)
    state.uploads.delete(query.get('uploadId') ?? '')
    return xml('<CompleteMultipartUploadResult></CompleteMultipartUploadResult>')
  },
  AbortMultipartUpload({ state, name, query }) {
    uploadOf(state, name, query)
    state.uploads.delete(query.get('uploadId') ?? '')
    return { status: 204 }
  },
}

function uploadOf(state: State, name: string, query: URLSearchParams) {
  const upload = state.uploads.get(query.get('uploadId') ?? '')
  if (upload === undefined || upload.name !== name) throw new Refusal(404, 'NoSuchUpload')
  return upload
}

function precondition(state: State, name: string, headers: Record<string, string>): void {
  if (headers['if-none-match'] === '*' && state.objects.has(name)) throw new Refusal(412, 'PreconditionFailed')
}

function store(state: State, name: string, bytes: Buffer, headers: Record<string, string>): string {
  const etag = etagOf(bytes)
  state.objects.set(name, { bytes, etag, headers, modifiedAt: new Date() })
  return etag
}

function etagOf(bytes: Buffer): string {
  return `"${createHash('md5').update(bytes).digest('hex')}"`
}

function keptHeaders(headers: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => name === 'content-type' || name.startsWith('x-amz-meta-')))
}

function described(object: Stored, length: number): Record<string, string> {
  return {
    ...object.headers,
    etag: object.etag,
    'content-length': String(length),
    'last-modified': object.modifiedAt.toUTCString(),
    'accept-ranges': 'bytes',
  }
}

function xml(body: string): Answer {
  return {
    status: 200,
    headers: { 'content-type': 'application/xml' },
    body: Buffer.from(`<?xml version="1.0" encoding="UTF-8"?>\n${body}`),
  }
}

function escapeXml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')
}
