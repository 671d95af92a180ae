import type { Policy } from '../lib/config/index.ts'
import { defaultPort } from './stack.ts'

/** The examples' policies speak of the default address; on another port their app and what they check is there. */
export function atAddress(policy: Policy, url: string): Policy {
  const written = `http://localhost:${defaultPort}`
  if (url === '' || url === written) return policy
  const there = (address: string) =>
    address === written || address.startsWith(`${written}/`) ? url + address.slice(written.length) : address
  const { app, health } = policy
  const checks = Object.entries(health?.checks ?? {}).map(([name, check]) => [
    name,
    check.url === undefined ? check : { ...check, url: there(check.url) },
  ])
  return {
    ...policy,
    app: app.url === undefined ? app : { ...app, url: there(app.url) },
    ...(health?.checks === undefined ? {} : { health: { ...health, checks: Object.fromEntries(checks) } }),
  }
}
