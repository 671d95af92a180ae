export interface LimitDecision {
  allowed: boolean
  limit: number
  remaining: number
  /** Seconds until the window has room again; at least 1 when refused. */
  resetSeconds: number
}

/**
 * Counts hits on `key` in a sliding window. Throws when its store cannot be reached: the route decides what that means
 * (`limit.onFailure`), because Upstash's own client lets everything through.
 */
export interface RateLimiter {
  hit(key: string, limit: number, windowSeconds: number): Promise<LimitDecision>
}
