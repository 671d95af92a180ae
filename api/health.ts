import policy from '../caretaker.config.ts'
import { onVercel } from '../lib/functions.ts'
import { health } from '../lib/routes/health.ts'

/** Public; `/health/detailed` shows its details to operators alone. */
export default onVercel(health, policy)
