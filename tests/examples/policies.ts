import canai from '../../caretaker.config.ts'
import catchup from '../../examples/catchup/caretaker.config.ts'
import guide from '../../examples/guide/caretaker.config.ts'
import productivity from '../../examples/productivity/caretaker.config.ts'
import runbooks from '../../examples/runbooks/caretaker.config.ts'
import type { Policy } from '../../lib/config/index.ts'

/** CanAI's as it stands at the root: what is deployed starts as that example. */
export const policies: Readonly<Record<string, Policy>> = { canai, runbooks, productivity, catchup, guide }

/** What each document asks for by name or by time; its page under docs/examples tells where. */
export const schedulesOf: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  canai: {
    'daily-maintenance': '0 2 * * *',
    'weekly-optimization': '0 3 * * 0',
    'monthly-lifecycle': '0 4 1 * *',
    'refresh-daily-metrics': '0 1 * * *',
    backup: '0 3 * * *',
    'backup-verify': '0 5 * * 0',
  },
  runbooks: { 'scheduled-maintenance': '0 2 * * 0', backup: '0 3 * * *' },
  productivity: { 'daily-cleanup': '0 2 * * *', 'sync-check': '*/15 * * * *', backup: '0 3 * * *', 'backup-increment': '0 * * * *' },
  catchup: {
    'suggestion-generation': '0 */6 * * *',
    'batch-notifications': '0 9 * * 0',
    'calendar-sync': '*/30 * * * *',
    'weekly-vacuum': '0 4 * * 0',
    backup: '0 2 * * *',
    'backup-increment': '0 * * * *',
  },
  guide: { 'database-maintenance': '0 4 * * 0', 'storage-cleanup': '30 2 * * *', backup: '0 3 * * *', 'backup-increment': '0 * * * *' },
}
