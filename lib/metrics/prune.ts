const dayMs = 86_400_000

/** How long minutes and hours are kept. */
export const minutesKeptMs = 7 * dayMs
export const hoursKeptMs = 400 * dayMs
