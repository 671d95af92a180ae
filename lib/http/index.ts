export { keyHash, sameSecret } from './authenticate.ts'
export { problemResponse, statusOf } from './problem.ts'
export { json, matchPath, route, type Authentication, type Method, type RequestInput, type Route } from './route.ts'
export { type Invocation, type OpenContext, serveRoutes } from './serve.ts'
