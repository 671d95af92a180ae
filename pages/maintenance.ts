import type { MaintenanceWindow } from '../lib/health/index.ts'

/** Of maintenance that recurs: the first, not every night of the time. */
export function nextOfEach(windows: readonly MaintenanceWindow[]): MaintenanceWindow[] {
  const seen = new Set<string>()
  return windows.filter(({ id, recurring }) => {
    const name = recurring ? id.slice(0, id.lastIndexOf('@')) : id
    return !seen.has(name) && seen.add(name)
  })
}
