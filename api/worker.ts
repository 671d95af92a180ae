import policy from '../caretaker.config.ts'
import { onVercel } from '../lib/functions.ts'
import { worker } from '../lib/routes/worker.ts'

/** Authenticated by CRON_SECRET; unset means closed. */
export default onVercel(worker, policy, 300)
