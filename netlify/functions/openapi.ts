import type { Config } from '@netlify/functions'
import policy from '../../caretaker.config.ts'
import { onNetlify } from '../../lib/functions.ts'
import { openapi } from '../../lib/routes/openapi.ts'

/** Public. */
export default onNetlify(openapi, policy)

export const config: Config = { path: '/openapi.json' }
