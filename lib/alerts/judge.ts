import type { Sample } from './step.ts'

/** When a figure is bad. */
export interface Threshold {
  above?: number | undefined
  below?: number | undefined
  /** What a firing one must come back to. */
  recover?: number | undefined
  /** Fewer samples than this say nothing. */
  minimum?: number | undefined
}

/**
 * Whether a figure is bad. While the alert fires it must come back to `recover`: a figure that hangs about the threshold is one
 * alert. No figure, or one made of too little, is neither good nor bad.
 */
export function judge(threshold: Threshold, measured: { value: number | null; samples: number }, firing: boolean): Sample {
  const { above, below, recover, minimum = 0 } = threshold
  const { value } = measured
  if (value === null || Number.isNaN(value) || measured.samples < minimum) return null
  if (above !== undefined) return value > (firing ? (recover ?? above) : above)
  if (below !== undefined) return value < (firing ? (recover ?? below) : below)
  return null
}
