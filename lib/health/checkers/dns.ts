import { lookup } from 'node:dns/promises'
import { type Checker, healthy, unhealthy } from '../checker.ts'

/** The host of `url` has an address, as the functions' own resolver sees it. */
export const dns: Checker = async (_ctx, check, signal) => {
  const address = check.url === undefined ? null : URL.parse(check.url)
  if (address === null) return unhealthy('misconfigured')
  // The resolver takes no signal; its answer comes to nothing when nobody waits any more.
  const aborted = new Promise<never>((_resolve, reject) =>
    signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true }),
  )
  const found = await Promise.race([lookup(address.hostname, { all: true }), aborted])
  return healthy({ addresses: found.length })
}
