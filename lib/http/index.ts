export { keyHash, sameSecret } from './authenticate.ts'
export { problemResponse, statusOf } from './problem.ts'
export { type Authentication, json, type Method, matchPath, type RequestInput, type Route, route } from './route.ts'
export { type Invocation, type OpenContext, serveRoutes } from './serve.ts'
