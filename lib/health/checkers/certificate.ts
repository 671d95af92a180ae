import { connect } from 'node:tls'
import { type Checker, type Finding, healthy, unhealthy } from '../checker.ts'

const warnDays = 14
const urgentDays = 7

/**
 * The certificate at `url` is accepted, and valid for two weeks more: authorities renew at thirty days, so that whatever
 * gets below fourteen was not renewed.
 */
export const certificate: Checker = async (ctx, check, signal) => {
  const address = check.url === undefined ? null : URL.parse(check.url)
  if (address === null || address.protocol !== 'https:') return unhealthy('misconfigured')
  const validTo = await expiry(address.hostname, Number(address.port) || 443, signal)
  const daysLeft = Math.floor((validTo.getTime() - ctx.clock.now().getTime()) / 86_400_000)
  return judge(daysLeft)
}

function judge(daysLeft: number): Finding {
  if (Number.isNaN(daysLeft)) return unhealthy('bad_answer')
  if (daysLeft < urgentDays) return unhealthy('certificate_urgent', { daysLeft })
  return daysLeft < warnDays ? unhealthy('certificate_expiring', { daysLeft }) : healthy({ daysLeft })
}

function expiry(host: string, port: number, signal: AbortSignal): Promise<Date> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, servername: host, ALPNProtocols: ['http/1.1'] }, () => {
      const { valid_to: until } = socket.getPeerCertificate()
      socket.end()
      resolve(new Date(until))
    })
    socket.on('error', reject)
    signal.addEventListener('abort', () => socket.destroy(signal.reason as Error), { once: true })
  })
}
