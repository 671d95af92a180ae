import type { Policy } from '../config/index.ts'
import { severityMatrix } from './incidents/severities.ts'

/** The policy's severity at that place, 0 the most severe; the least severe where there are fewer. */
export function severityAt(policy: Policy, rank: number): string {
  const matrix = severityMatrix(policy)
  return (matrix[Math.min(rank, matrix.length - 1)] ?? { name: 'P0' }).name
}
