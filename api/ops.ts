import policy from '../caretaker.config.ts'
import { onVercel } from '../lib/functions.ts'
import { ops } from '../lib/routes/ops.ts'

/** Authenticated by an operator's key or access token, or by signing in at /ops; and by role. */
export default onVercel(ops, policy)
