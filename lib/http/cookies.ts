export type CookieName = 'session' | 'flash' | 'browser'

/**
 * The value of `Set-Cookie`: `SameSite=Strict` and, but for this machine's own addresses, `Secure` and bound to its host.
 * A life of 0 seconds forgets it.
 */
export function cookie(request: Request, name: CookieName, value: string, seconds: number): string {
  const secure = isPlainLoopback(request) ? '' : '; Secure'
  return `${cookieName(request, name)}=${value}; Path=/; Max-Age=${seconds}; HttpOnly; SameSite=Strict${secure}`
}

/** What the request's cookie of that name says; null where there is none, or somebody wrote one of their own. */
export function readCookie(request: Request, name: CookieName): string | null {
  const wanted = cookieName(request, name)
  for (const pair of (request.headers.get('cookie') ?? '').split(';')) {
    const at = pair.indexOf('=')
    if (pair.slice(0, at).trim() !== wanted) continue
    const value = pair.slice(at + 1).trim()
    return /^[\w-]{1,4096}$/.test(value) ? value : null
  }
  return null
}

/**
 * A `__Host-` cookie cannot be set by any other host, nor over http. Over plain http there is only this machine's own address, of which
 * a browser keeps the cookies of all ports in one place: the port is in the name, so that two local stacks do not sign each other out.
 */
function cookieName(request: Request, name: CookieName): string {
  if (!isPlainLoopback(request)) return `__Host-caretaker-${name}`
  const { port } = new URL(request.url)
  return port === '' ? `caretaker-${name}` : `caretaker-${name}-${port}`
}

function isPlainLoopback(request: Request): boolean {
  const { protocol, hostname } = new URL(request.url)
  return protocol === 'http:' && ['localhost', '127.0.0.1', '[::1]'].includes(hostname)
}
