export { checkPolicy } from './check-policy.ts'
export type { Issue } from './issue.ts'
export { planSteps } from './plan-steps.ts'
export { runSteps } from './run-steps.ts'
