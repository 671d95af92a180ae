// The policy that is deployed. It starts as the example's, so that a fresh clone has an app to look after.
export { default } from './examples/canai/caretaker.config.ts'
