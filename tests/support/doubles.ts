import { setupServer } from 'msw/node'

/** Stand-ins for third parties, from `tests/doubles/<provider>.ts`: `doubles.use(...stripeApi(state))` in a test. */
export const doubles = setupServer()
