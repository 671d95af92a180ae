import type { Uptime } from '../../lib/health/index.ts'
import type { Tone } from '../parts.ts'
import type { DayState } from '../plot.ts'
import type { ComponentStatus, Indicator } from './model.ts'

export const statusWords: Record<ComponentStatus, { tone: Tone; text: string }> = {
  operational: { tone: 'ok', text: 'Operational' },
  partial_outage: { tone: 'bad', text: 'Not working' },
  major_outage: { tone: 'bad', text: 'Not working' },
  maintenance: { tone: 'warn', text: 'Maintenance' },
  unknown: { tone: 'none', text: 'No data' },
}

export const indicatorTones: Record<Indicator, Tone> = {
  none: 'ok',
  minor: 'warn',
  major: 'bad',
  critical: 'bad',
  maintenance: 'warn',
  unknown: 'none',
}

export const dayWords: Record<DayState, string> = {
  up: 'no outage',
  partial: 'short outage',
  down: 'outage',
  maintenance: 'maintenance',
  unknown: 'no data',
}

/** `99.95 % uptime`, or the bounds where part of the time nobody looked: `99.90 to 99.97 % uptime`. */
export function uptimeText(uptime: Uptime | null): string {
  if (uptime === null) return 'no data yet'
  const [least, most] = [percentText(uptime.atLeast), percentText(uptime.atMost)]
  return least === most ? `${least} % uptime` : `${least} to ${most} % uptime`
}

/** Never rounded up: 99.999 % is not 100. */
export function percentText(percent: number): string {
  const cut = Math.floor(percent * 100 + 1e-7) / 100
  return cut === 100 ? '100' : cut.toFixed(2)
}

export function secondsText(seconds: number): string {
  if (seconds < 60) return `${Math.round(seconds)} s`
  const minutes = Math.round(seconds / 60)
  if (minutes < 60) return `${minutes} min`
  return `${Math.floor(minutes / 60)} h${minutes % 60 === 0 ? '' : ` ${minutes % 60} min`}`
}
