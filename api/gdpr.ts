import policy from '../caretaker.config.ts'
import { onVercel } from '../lib/functions.ts'
import { gdpr } from '../lib/routes/gdpr.ts'

/** Authenticated by the subject's own access token, or by an operator. */
export default onVercel(gdpr, policy)
