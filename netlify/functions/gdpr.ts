import type { Config } from '@netlify/functions'
import policy from '../../caretaker.config.ts'
import { onNetlify } from '../../lib/functions.ts'
import { gdpr } from '../../lib/routes/gdpr.ts'

/** Authenticated by the subject's own access token, or by an operator. */
export default onNetlify(gdpr, policy)

export const config: Config = { path: '/api/gdpr/*' }
