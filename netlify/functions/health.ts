import type { Config } from '@netlify/functions'
import policy from '../../caretaker.config.ts'
import { onNetlify } from '../../lib/functions.ts'
import { health } from '../../lib/routes/health.ts'

/** Public; `/health/detailed` shows its details to operators alone. */
export default onNetlify(health, policy)

export const config: Config = { path: ['/health', '/health/*'] }
