import policy from '../caretaker.config.ts'
import { onVercel } from '../lib/functions.ts'
import { webhooks } from '../lib/routes/webhooks.ts'

/** Authenticated by each provider's signature over the bytes as they came. */
export default onVercel(webhooks, policy)
