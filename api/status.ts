import policy from '../caretaker.config.ts'
import { onVercel } from '../lib/functions.ts'
import { status } from '../lib/routes/status.ts'

/** Public: the status page, its feed and its JSON. */
export default onVercel(status, policy)
