import type { Config } from '@netlify/functions'
import policy from '../../caretaker.config.ts'
import { onNetlify } from '../../lib/functions.ts'
import { ops } from '../../lib/routes/ops.ts'

/** Authenticated by an operator's key or access token, or by signing in at /ops; and by role. */
export default onNetlify(ops, policy)

export const config: Config = { path: ['/ops', '/ops/*', '/api/ops/*'] }
