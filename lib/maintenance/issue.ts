import { CaretakerError } from '../platform/errors.ts'

/** Something the policy asks for that the database does not have, or that would hurt. */
export interface Issue {
  /** Where in the policy: `retention.2.column`. */
  path: string
  /** What was found, what was expected and, where there is one, the nearest right name. */
  message: string
  /** An error stops the work it speaks of; a warning does not. */
  severity: 'error' | 'warning'
}

export function errorAt(path: string, message: string): Issue {
  return { path, message, severity: 'error' }
}

export function warningAt(path: string, message: string): Issue {
  return { path, message, severity: 'warning' }
}

/** `policy_invalid` with one line an error, or undefined when there are only warnings. */
export function policyError(issues: readonly Issue[]): CaretakerError | undefined {
  const errors = issues.filter((issue) => issue.severity === 'error')
  if (errors.length === 0) return undefined
  const lines = errors.map((issue) => `  ${issue.path}: ${issue.message}`).join('\n')
  return new CaretakerError('policy_invalid', `The policy does not fit the database:\n${lines}`, {
    issues: errors.map(({ path, message }) => ({ path, message })),
  })
}

/** `policy_invalid` with the one issue. */
export function issueError(issue: Issue): CaretakerError {
  const { path, message } = issue
  return new CaretakerError('policy_invalid', `The policy does not fit the database:\n  ${path}: ${message}`, {
    issues: [{ path, message }],
  })
}

/** @throws {CaretakerError} `policy_invalid` when one of the issues is an error. */
export function throwErrors(issues: readonly Issue[]): void {
  const error = policyError(issues)
  if (error !== undefined) throw error
}
