import type { Route } from '../../http/index.ts'
import type { Wake } from '../wake-worker.ts'
import { actions } from './actions.ts'
import { pages } from './pages.ts'
import { signIn } from './sign-in.ts'

/** The dashboard: the way in, the pages, and what their forms do. */
export const dashboard = (options: { wake: Wake }): Route[] => [...signIn(), ...actions(options), ...pages()]
