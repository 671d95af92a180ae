/** One measured figure: a line of JSON on stdout. */
export interface Figure {
  bench: string
  figure: string
  value: number
  unit: string
  /** What was promised, in the same unit, and whether it holds. */
  budget?: number
  holds?: boolean
}

export function printFigure(figure: Figure): void {
  console.log(JSON.stringify({ ...figure, value: Number(figure.value.toPrecision(4)) }))
  if (figure.holds === false) process.exitCode = 1
}

/** The value below which `percent` of `values` lie (nearest rank). */
export function percentile(values: readonly number[], percent: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  const at = Math.min(sorted.length - 1, Math.max(0, Math.ceil((percent / 100) * sorted.length) - 1))
  return sorted[at] ?? Number.NaN
}
