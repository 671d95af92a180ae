import type { Config } from '@netlify/functions'
import policy from '../../caretaker.config.ts'
import { onNetlify } from '../../lib/functions.ts'
import { status } from '../../lib/routes/status.ts'

/** Public: the status page, its feed and its JSON. */
export default onNetlify(status, policy)

export const config: Config = { path: ['/status', '/status/*', '/status.json', '/api/v2/*'] }
