import policy from '../caretaker.config.ts'
import { onVercel } from '../lib/functions.ts'
import { metrics } from '../lib/routes/metrics.ts'

/** Authenticated by METRICS_KEY, or by an operator's key or access token. */
export default onVercel(metrics, policy)
