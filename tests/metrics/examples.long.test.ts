import { beforeAll, describe, expect, it } from 'vitest'
import { listErrors, metricsDashboard } from '../../lib/metrics/index.ts'
import { planMetrics } from '../../lib/metrics/job.ts'
import { applyMigrations } from '../../lib/platform/migrations.ts'
import { installExample } from '../../local/example.ts'
import { policies } from '../examples/policies.ts'
import { logLines } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'
import { metricsContext } from './support.ts'

describe.each(Object.entries(policies))('the example %s', (name, policy) => {
  const test = useTestDatabase({ template: 'template0' })

  beforeAll(async () => {
    await installExample(test.db, name, { rows: 500 })
    await applyMigrations(test.db)
  })

  it('has gauges, figures and errors that its database answers', async () => {
    const ctx = metricsContext(test.db, { overrides: { config: policy } })
    const planned = await planMetrics(ctx)
    expect(planned.flatMap(({ warnings = [] }) => warnings)).toEqual([])
    expect(planned.length).toBeGreaterThan(2)
    await metricsDashboard(ctx)
    const now = new Date()
    expect(await listErrors(ctx, { from: new Date(0), to: now, limit: 5 })).not.toHaveProperty('note')
    expect(logLines(ctx).filter((line) => line.includes('"warn"'))).toEqual([])
  })
})
