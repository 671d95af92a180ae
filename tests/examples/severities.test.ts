import { expect, it } from 'vitest'
import { severityMatrix } from '../../lib/alerts/index.ts'
import { policies } from './policies.ts'

const matrixOf = (app: string) =>
  severityMatrix(policies[app] ?? {}).map(({ name, respondWithin, escalateAfter, impact }) => [name, respondWithin, escalateAfter, impact])

it("the runbooks' severities, which are also the default", () => {
  const asked = [
    ['P0', '15 minutes', 'immediately', 'critical'],
    ['P1', '30 minutes', '1 hour', 'major'],
    ['P2', '2 hours', '4 hours', 'minor'],
    ['P3', '24 hours', '48 hours', 'none'],
  ]
  expect(matrixOf('runbooks')).toEqual(asked)
  expect(matrixOf('canai')).toEqual(asked)
  expect(policies.runbooks?.incidents?.checklist).toHaveLength(8)
})

it("the productivity app's levels", () => {
  expect(matrixOf('productivity')).toEqual([
    ['P1_Critical', '15 minutes', 'immediately', 'critical'],
    ['P2_High', '1 hour', 'immediately', 'major'],
    ['P3_Medium', '4 hours', null, 'minor'],
    ['P4_Low', 'next business day', null, 'none'],
  ])
  expect(severityMatrix(policies.productivity ?? {}).map(({ notify, escalateTo }) => [notify, escalateTo])).toEqual([
    [['slack'], ['pagerduty']],
    [['slack'], ['team-lead']],
    [['slack'], []],
    [[], []],
  ])
})
