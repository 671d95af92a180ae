import type { Route } from '../http/index.ts'
import { dashboard } from './ops/index.ts'
import { opsAlerts } from './ops-alerts.ts'
import { opsApi } from './ops-api.ts'
import { opsIncidents } from './ops-incidents.ts'
import { opsMaintenance } from './ops-maintenance.ts'
import { type Wake, wakeWorker } from './wake-worker.ts'

/** What an operator sees and does over HTTP: the API, and the dashboard. */
export const ops = ({ wake = wakeWorker }: { wake?: Wake } = {}): Route[] => [
  ...opsApi({ wake }),
  ...opsAlerts(),
  ...opsIncidents({ wake }),
  ...opsMaintenance(),
  ...dashboard({ wake }),
]
