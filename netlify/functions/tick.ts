import type { Config } from '@netlify/functions'
import policy from '../../caretaker.config.ts'
import { jobs } from '../../lib/catalog.ts'
import { onNetlifySchedule } from '../../lib/functions.ts'
import { runTick } from '../../lib/routes/cron.ts'

/** Called by Netlify's clock alone: a scheduled function has no address to call. */
export default onNetlifySchedule((ctx) => runTick(ctx, jobs(policy)), policy)

export const config: Config = { schedule: '* * * * *' }
