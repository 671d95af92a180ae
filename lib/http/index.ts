export { keyHash } from './authenticate.ts'
export { problemResponse, statusOf } from './problem.ts'
export { type Authentication, json, matchPath, type Route, route } from './route.ts'
export { type Invocation, serveRoutes } from './serve.ts'
