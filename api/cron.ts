import policy from '../caretaker.config.ts'
import { onVercel } from '../lib/functions.ts'
import { cron } from '../lib/routes/cron.ts'

/** Authenticated by CRON_SECRET; unset means closed. */
export default onVercel(cron, policy)
