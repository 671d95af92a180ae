import type { Config } from '@netlify/functions'
import policy from '../../caretaker.config.ts'
import { onNetlify } from '../../lib/functions.ts'
import { metrics } from '../../lib/routes/metrics.ts'

/** Authenticated by METRICS_KEY, or by an operator's key or access token. */
export default onNetlify(metrics, policy)

export const config: Config = { path: ['/metrics', '/metrics/*'] }
