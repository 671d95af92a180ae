import type { Route } from '../../http/index.ts'
import type { Wake } from '../wake-worker.ts'
import { wayBack } from './action.ts'
import { actions } from './actions.ts'
import { downloads, pages } from './pages.ts'
import { questions } from './questions.ts'
import { signIn } from './sign-in.ts'

/** The dashboard: the way in, the pages, what is asked before what cannot be taken back, and what forms do. */
export const dashboard = ({ wake }: { wake: Wake }): Route[] => {
  const shown = [...questions(), ...pages()]
  const does = actions({ wake, pages: shown })
  const addressed = new Set(shown.map(({ path }) => path))
  const ways = does.filter(({ path }) => !addressed.has(path)).map(wayBack)
  return [...signIn(does), ...does, ...ways, ...downloads(), ...shown]
}
