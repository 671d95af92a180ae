import policy from '../caretaker.config.ts'
import { onVercel } from '../lib/functions.ts'
import { openapi } from '../lib/routes/openapi.ts'

/** Public. */
export default onVercel(openapi, policy)
