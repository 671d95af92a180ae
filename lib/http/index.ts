export { keyHash } from './credentials.ts'
export { listKeys, type OperatorKey, revokeKey } from './keys.ts'
export { problemResponse, statusOf } from './problem.ts'
export { type Authentication, type Failed, type FormFields, form, json, matchPath, type Route, route } from './route.ts'
export { type Invocation, serveRoutes } from './serve.ts'
export { endSession, findSession, flashCookie, forgetSession, type Session, takeFlash } from './session.ts'
export { signInWithKey, signInWithPassword } from './sign-in.ts'
export {
  answerSubmission,
  assertSignInCounts,
  claimSubmission,
  noteSignIn,
  releaseSubmission,
  submissionKey,
} from './submission.ts'
