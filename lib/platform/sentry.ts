import type { Env } from './env.ts'
import { CaretakerError } from './errors.ts'
import { describeError } from './log.ts'

export interface Captured {
  requestId: string
  /** Short and free of personal data: job, route, host. */
  tags?: Record<string, string>
}

/** Reports defects. Neither method throws: a report that cannot be sent must not fail what it is about. */
export interface Sentry {
  /** Starts sending; `flush` waits for it. Refusals of rate limits and lost leases are no defects and are dropped. */
  capture(error: unknown, about: Captured): void
  /** Waits until everything captured is sent, at most `timeoutMs`. Give it to the host's `waitUntil`. True when all is sent. */
  flush(timeoutMs: number): Promise<boolean>
}

/** The part of Sentry's client that is used here. */
interface Client {
  send(error: unknown, about: Captured): void
  flush(timeoutMs: number): PromiseLike<boolean>
}

const noise = new Set(['rate_limited', 'lease_lost'])

/**
 * Sentry where `SENTRY_DSN` is set, and nothing at all otherwise: its client is loaded with the first error.
 * See docs/decisions/0002-sentry.md.
 */
export function openSentry(env: Env, fetch: typeof globalThis.fetch): Sentry {
  const dsn = env.SENTRY_DSN
  if (dsn === undefined) return { capture: () => undefined, flush: () => Promise.resolve(true) }
  let client: Promise<Client> | undefined
  const pending = new Set<Promise<void>>()
  return {
    capture(error, about) {
      if (isNoise(error)) return
      client ??= load(dsn, env, fetch)
      const handedOver: Promise<void> = client
        .then((loaded) => loaded.send(error, about))
        .catch(() => undefined)
        .finally(() => pending.delete(handedOver))
      pending.add(handedOver)
    },
    async flush(timeoutMs) {
      if (client === undefined) return true
      try {
        await Promise.all(pending)
        return await (await client).flush(timeoutMs)
      } catch {
        return false
      }
    },
  }
}

function isNoise(error: unknown): boolean {
  if (error instanceof CaretakerError) return noise.has(error.code)
  return error instanceof Error && error.name === 'RateLimitError'
}

async function load(dsn: string, env: Env, fetch: typeof globalThis.fetch): Promise<Client> {
  const [{ createStackParser, createTransport }, { nodeStackLineParser, ServerRuntimeClient }] = await Promise.all([
    import('@sentry/core'),
    import('@sentry/core/server'),
  ])
  const stackParser = createStackParser(nodeStackLineParser())
  const clean = scrubber(env)
  const client = new ServerRuntimeClient({
    dsn,
    platform: 'node',
    environment: env.CARETAKER_ENVIRONMENT ?? 'production',
    ...(env.APP_VERSION === undefined ? {} : { release: env.APP_VERSION }),
    integrations: [],
    stackParser,
    sendClientReports: false,
    transport: (options) =>
      createTransport(options, async ({ body }) => {
        const answer = await fetch(options.url, {
          method: 'POST',
          body: body as NonNullable<RequestInit['body']>,
          headers: options.headers ?? {},
        })
        await answer.body?.cancel()
        return {
          statusCode: answer.status,
          headers: { 'x-sentry-rate-limits': answer.headers.get('x-sentry-rate-limits'), 'retry-after': answer.headers.get('retry-after') },
        }
      }),
  })
  return {
    // The event is made here and not by the client, which would take over an error's every property.
    send(error, { requestId, tags = {} }) {
      const code = error instanceof CaretakerError ? { code: error.code } : {}
      client.captureEvent({
        level: 'error',
        tags: Object.fromEntries(Object.entries({ ...tags, ...code, request_id: requestId }).map(([name, value]) => [name, clean(value)])),
        exception: {
          // Sentry wants the cause first.
          values: chain(error)
            .reverse()
            .map((one) => {
              const { type, message } = describeError(one)
              const frames = one instanceof Error && one.stack !== undefined ? { stacktrace: { frames: stackParser(framesOf(one)) } } : {}
              return { type: String(type ?? 'Thrown'), value: clean(String(message)), ...frames }
            }),
        },
      })
    },
    flush: (timeoutMs) => client.flush(timeoutMs),
  }
}

/** The error and its causes, at most five. */
function chain(error: unknown): unknown[] {
  const errors = [error]
  for (let next = error; next instanceof Error && next.cause !== undefined && errors.length < 5; ) {
    next = next.cause
    errors.push(next)
  }
  return errors
}

/** The stack without the message, whose lines might pass for frames. */
function framesOf(error: Error): string {
  const lines = (error.stack ?? '').split('\n')
  const messageLines = error.message.split('\n').length
  return ['Error', ...lines.slice(messageLines)].join('\n')
}

const personal: readonly [RegExp, string][] = [
  [/\b(postgres(?:ql)?|https?|rediss?):\/\/[^\s/@]+@/g, '$1://[redacted]@'],
  [/[\w.+-]+@[\w-]+(?:\.[\w-]+)+/g, '[e-mail]'],
  [/\beyJ[\w-]+\.[\w-]+(?:\.[\w-]*)?/g, '[token]'],
  [/\b(?:sk|rk|pk|whsec|SG|AC|re|phc|xox[abp])[_.-][\w.-]{8,}/g, '[key]'],
  [/\b(Bearer|Basic)\s+[\w.~+/=-]+/gi, '$1 [redacted]'],
  [/\b\d{1,3}(?:\.\d{1,3}){3}\b/g, '[address]'],
  [/\+?\d[\d ()-]{7,}\d/g, '[number]'],
]

/** Takes out the environment's own secrets, then what looks like a person's or a key. */
function scrubber(env: Env): (text: string) => string {
  const secrets = Object.entries(env)
    .filter(([name, value]) => typeof value === 'string' && value.length >= 8 && /KEY|SECRET|TOKEN|URL|DSN|SID|PHONE|EMAIL/.test(name))
    .map(([, value]) => String(value))
  return (text) => {
    let clean = text
    for (const secret of secrets) clean = clean.replaceAll(secret, '[redacted]')
    for (const [pattern, replacement] of personal) clean = clean.replace(pattern, replacement)
    return clean.slice(0, 2_000)
  }
}
