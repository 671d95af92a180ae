import type { Config } from '@netlify/functions'
import policy from '../../caretaker.config.ts'
import { onNetlify } from '../../lib/functions.ts'
import { worker } from '../../lib/routes/worker.ts'

/** Netlify answers 202 before this runs; here CRON_SECRET is asked for before any work is done. */
export default onNetlify(worker, policy, 'background')

export const config: Config = { path: '/api/worker', background: true }
