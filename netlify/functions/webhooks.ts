import type { Config } from '@netlify/functions'
import policy from '../../caretaker.config.ts'
import { onNetlify } from '../../lib/functions.ts'
import { webhooks } from '../../lib/routes/webhooks.ts'

/** Authenticated by each provider's signature over the bytes as they came. */
export default onNetlify(webhooks, policy)

export const config: Config = { path: '/api/webhooks/*' }
