/*
 * Buckets whose upper bounds grow by a constant factor, so that any observation is known to within 5 % and two histograms
 * are merged by adding their counts. From 1 ms to 60 s (or 0.001 to 60 of any unit) there are 110; above they go on. Only
 * buckets that are not empty are kept.
 */

/** The worst relative error of a value read back from its bucket. */
const accuracy = 0.05
const growth = (1 + accuracy) / (1 - accuracy)
const logGrowth = Math.log(growth)
/** The first bucket holds everything up to here. */
const lowest = 0.001
/** No unit of anything measured is beyond 10^30: what is counts as that. */
const last = 760

/** Observations by bucket. */
export type Buckets = Map<number, number>

/** The bucket of a value: 0 for everything up to 0.001, negative values too. */
export function bucketOf(value: number): number {
  if (!(value > lowest)) return 0
  // A value on a bound belongs below it, whatever the logarithm's last digit says.
  return Math.min(last, Math.max(1, Math.ceil(Math.log(value / lowest) / logGrowth - 1e-9)))
}

/** The greatest value of a bucket. */
export function upperBound(bucket: number): number {
  return lowest * growth ** bucket
}

/** The value that is within 5 % of every value of the bucket (of the first one: 0.001). */
export function middleOf(bucket: number): number {
  return bucket <= 0 ? lowest : (2 * upperBound(bucket)) / (1 + growth)
}

export function addTo(buckets: Buckets, bucket: number, count: number): void {
  const sum = (buckets.get(bucket) ?? 0) + count
  if (sum === 0) buckets.delete(bucket)
  else buckets.set(bucket, sum)
}

/**
 * The value below which `share` (0 to 1) of the observations lie, by nearest rank and to within 5 %; null without
 * observations. `bounds`, where known, are the least and the greatest observation: nothing outside of them is answered.
 */
export function quantile(buckets: Buckets, share: number, bounds?: { min: number; max: number }): number | null {
  let total = 0
  for (const count of buckets.values()) total += count
  if (total <= 0) return null
  const rank = Math.max(1, Math.ceil(share * total))
  let seen = 0
  for (const bucket of [...buckets.keys()].sort((a, b) => a - b)) {
    seen += buckets.get(bucket) ?? 0
    if (seen < rank) continue
    const value = middleOf(bucket)
    return bounds === undefined ? value : Math.min(Math.max(value, bounds.min), bounds.max)
  }
  return null
}
