/** A place in the write-ahead log, `16/B374D848`, as a number that compares. */
export function lsn(text: string): bigint {
  const [high = '0', low = '0'] = text.split('/')
  return (BigInt(`0x${high}`) << 32n) | BigInt(`0x${low}`)
}

export function formatLsn(position: bigint): string {
  return `${(position >> 32n).toString(16).toUpperCase()}/${(position & 0xffffffffn).toString(16).toUpperCase()}`
}

/**
 * The whole id of a transaction of which the log has the lower 32 bits. `reference` is a whole id of about the same time:
 * no transaction in the log is two thousand million older, or a million younger.
 */
export function fullTransactionId(low: bigint, reference: bigint): bigint {
  const epoch = 1n << 32n
  const candidate = (reference / epoch) * epoch + low
  if (candidate > reference + (1n << 20n)) return candidate - epoch
  if (candidate < reference - (epoch >> 1n)) return candidate + epoch
  return candidate
}

/** Which transactions a snapshot holds, of the text of `pg_current_snapshot()`. */
export function snapshotOf(text: string): { xmin: bigint; holds(transaction: bigint): boolean } {
  const [xmin = '0', xmax = '0', running = ''] = text.split(':')
  const under = new Set(running === '' ? [] : running.split(',').map(BigInt))
  const [from, to] = [BigInt(xmin), BigInt(xmax)]
  return { xmin: from, holds: (id) => id < from || (id < to && !under.has(id)) }
}
