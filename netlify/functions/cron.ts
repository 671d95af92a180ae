import type { Config } from '@netlify/functions'
import policy from '../../caretaker.config.ts'
import { onNetlify } from '../../lib/functions.ts'
import { cron } from '../../lib/routes/cron.ts'

/** Authenticated by CRON_SECRET; unset means closed. */
export default onNetlify(cron, policy)

export const config: Config = { path: '/api/cron/*' }
