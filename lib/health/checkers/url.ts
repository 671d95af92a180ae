import { type Checker, judgeStatus, unhealthy } from '../checker.ts'

const redirectsFollowed = 3

/**
 * An address answers with `expectStatus`, or any 2xx where none is named. Redirects on the same host are followed
 * (http to https counts as the same); one to another host is a failure: what answers there is not what was asked about.
 */
export const url: Checker = async (ctx, check, signal) => {
  if (check.url === undefined) return unhealthy('misconfigured')
  let at = new URL(check.url)
  for (let hop = 0; ; hop++) {
    const response = await ctx.fetch(at.href, { redirect: 'manual', headers: { 'user-agent': 'caretaker-health' }, signal })
    if (check.expectStatus !== undefined && response.status === check.expectStatus) return judgeStatus(response, () => true)
    const next = response.status >= 300 && response.status < 400 ? target(response, at) : undefined
    if (next === undefined) return judgeStatus(response, check.expectStatus === undefined ? undefined : () => false)
    await response.body?.cancel()
    const upgraded = at.protocol === 'http:' && next.protocol === 'https:' && next.hostname === at.hostname
    if (next.origin !== at.origin && !upgraded) return unhealthy('redirected', { httpStatus: response.status })
    if (hop >= redirectsFollowed) return unhealthy('bad_answer', { httpStatus: response.status })
    at = next
  }
}

function target(response: Response, from: URL): URL | undefined {
  const location = response.headers.get('location')
  return location === null ? undefined : (URL.parse(location, from.href) ?? undefined)
}
