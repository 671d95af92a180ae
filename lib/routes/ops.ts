import type { Route } from '../http/index.ts'
import { opsApi } from './ops-api.ts'
import { opsIncidents } from './ops-incidents.ts'
import type { Wake } from './wake-worker.ts'

/** What an operator sees and does over HTTP. */
export const ops = (options: { wake?: Wake } = {}): Route[] => [...opsApi(options), ...opsIncidents(options)]
