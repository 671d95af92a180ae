import { describe, expect, it } from 'vitest'
import { defineConfig, type MaintenancePolicy, type PolicyInput } from '../../lib/config/index.ts'
import {
  dependencyTree,
  endMaintenance,
  listMaintenance,
  maintenanceAt,
  remoteChecks,
  scheduleMaintenance,
} from '../../lib/health/index.ts'
import { occurrences } from '../../lib/health/windows/recurring.ts'
import { verifyAudit } from '../../lib/platform/audit.ts'
import { useTestDatabase } from '../support/database.ts'
import { healthContext } from './support.ts'

const test = useTestDatabase()
const hour = 3_600_000
const day = 86_400_000

describe('maintenance that recurs', () => {
  const open = async (window: Partial<MaintenancePolicy>, from: string, days: number, zone = 'UTC') =>
    (await occurrences({ name: 'w', ...window }, zone, new Date(from), new Date(new Date(from).getTime() + days * day))).map(
      ({ startsAt, endsAt }) => `${startsAt.toISOString().slice(0, 16)} ${(endsAt.getTime() - startsAt.getTime()) / hour} h`,
    )

  it('comes on its days at its hours, over midnight too', async () => {
    expect(await open({ days: ['sat', 'sun'], from: '23:00', to: '01:30' }, '2026-11-20T00:00:00Z', 3)).toEqual([
      '2026-11-21T23:00 2.5 h',
      '2026-11-22T23:00 2.5 h',
    ])
    expect(await open({ from: '00:00', to: '00:00' }, '2026-11-20T12:00:00Z', 1)).toEqual([
      '2026-11-20T00:00 24 h',
      '2026-11-21T00:00 24 h',
    ])
  })

  it('comes as its cron expression says, and is found while it is open', async () => {
    expect(await open({ cron: '0 2 * * 0', duration: '3 hours' }, '2026-11-22T04:30:00Z', 7.5)).toEqual([
      '2026-11-22T02:00 3 h',
      '2026-11-29T02:00 3 h',
    ])
    expect(await open({ cron: '0 2 * * 0', duration: '3 hours' }, '2026-11-22T05:00:00Z', 1)).toEqual([])
  })

  it.each([
    // The clocks of Berlin show 02:00 to 03:00 twice on 25 October 2026, and not at all on 29 March.
    ['02:15', '02:45', '2026-10-24T12:00:00Z', '2026-10-25T00:15 1.5 h'],
    ['01:00', '04:00', '2026-10-24T12:00:00Z', '2026-10-24T23:00 4 h'],
    ['02:15', '02:45', '2026-03-28T12:00:00Z', 'nothing'],
    ['02:30', '04:00', '2026-03-28T12:00:00Z', '2026-03-29T01:00 1 h'],
    ['01:00', '04:00', '2026-03-28T12:00:00Z', '2026-03-29T00:00 2 h'],
  ])('from %s to %s in Berlin, in the night after %s, is %s', async (from, to, night, expected) => {
    expect((await open({ from, to, timezone: 'Europe/Berlin' }, night, 0.9)).join() || 'nothing').toBe(expected)
  })

  it('by cron comes once in the hour that happens twice, and in the hour that does not happen once, too', async () => {
    const window = { cron: '30 2 * * *', duration: '1 hour' }
    expect(await open({ ...window, timezone: 'Europe/Berlin' }, '2026-10-24T12:00:00Z', 1)).toHaveLength(1)
    expect(await open({ ...window, timezone: 'Europe/Berlin' }, '2026-03-28T12:00:00Z', 1)).toHaveLength(1)
  })

  it('is read in the zone of the app where it names none', async () => {
    const ctx = healthContext(test.db, {
      policy: { app: { name: 'T', timezone: 'America/New_York' }, health: { maintenance: [{ name: 'n', from: '07:00', to: '08:00' }] } },
    })
    expect(await maintenanceAt(ctx, new Date('2026-11-21T12:30:00Z'))).toMatchObject([{ title: 'n', components: 'all', recurring: true }])
    expect(await maintenanceAt(ctx, new Date('2026-11-21T13:00:00Z'))).toEqual([])
  })
})

describe('maintenance by hand', () => {
  const checks = { a: { kind: 'dns', url: 'https://a.test' }, 'b-c': { kind: 'dns', url: 'https://b.test' } }
  const context = () => healthContext(test.db, { health: { checks } })

  it('is open from when it begins to when it ends or is ended, and is audited', async () => {
    const ctx = context()
    const now = ctx.clock.now()
    const at = (hours: number) => new Date(now.getTime() + hours * hour)
    const window = await scheduleMaintenance(ctx, { title: ' Disks ', components: ['b_c'], startsAt: at(1), endsAt: at(3) })
    expect(window).toMatchObject({ title: 'Disks', components: ['b-c'], recurring: false })
    expect(await Promise.all([at(0.9), at(1), at(2.9), at(3)].map(async (when) => (await maintenanceAt(ctx, when)).length))).toEqual([
      0, 1, 1, 0,
    ])
    ctx.clock.advance(2 * hour)
    await endMaintenance(ctx, window.id)
    expect(await maintenanceAt(ctx, at(2.5))).toEqual([])
    expect(await listMaintenance(ctx, { from: now, to: at(9) })).toMatchObject([{ id: window.id, endsAt: at(2) }])
    await expect(endMaintenance(ctx, window.id)).rejects.toMatchObject({ code: 'conflict' })
    expect(await verifyAudit(test.db)).toMatchObject({ brokenAt: null })
    expect(await test.db.query('select action from caretaker.audit where target = $1 order by seq', [window.id])).toEqual([
      { action: 'health.maintenance_scheduled' },
      { action: 'health.maintenance_ended' },
    ])
  })

  it('is called off before it begins, and is no business of another environment', async () => {
    const [ctx, other] = [context(), context()]
    const window = await scheduleMaintenance(ctx, {
      title: 'Later',
      startsAt: new Date(ctx.clock.now().getTime() + hour),
      endsAt: new Date(ctx.clock.now().getTime() + 2 * hour),
    })
    expect(window.components).toBe('all')
    await expect(endMaintenance(other, window.id)).rejects.toMatchObject({ code: 'not_found' })
    await endMaintenance(ctx, window.id)
    expect(await listMaintenance(ctx, { from: ctx.clock.now(), to: new Date(ctx.clock.now().getTime() + day) })).toEqual([])
    await expect(endMaintenance(ctx, 'nightly@2026-11-21T00:00:00.000Z')).rejects.toMatchObject({ code: 'not_found' })
  })

  it.each([
    [{ title: '' }, 'title'],
    [{ title: 'x'.repeat(201) }, 'title'],
    [{ body: 'x'.repeat(5_001) }, 'body'],
    [{ endsAt: new Date('2026-11-21T11:00:00Z'), startsAt: new Date('2026-11-21T10:00:00Z') }, 'endsAt'],
    [{ endsAt: new Date('2026-11-21T12:00:00Z') }, 'endsAt'],
    [{ endsAt: new Date('2027-11-21T12:00:00Z') }, 'endsAt'],
    [{ components: [] }, 'components'],
    [{ components: ['b-d'] }, 'components.*did you mean "b-c"'],
  ])('refuses %j, naming the field', async (wrong, named) => {
    const input = { title: 'Disks', endsAt: new Date('2026-11-21T13:00:00Z'), ...wrong }
    await expect(scheduleMaintenance(context(), input)).rejects.toMatchObject({
      code: 'invalid_input',
      detail: expect.stringMatching(named),
    })
  })
})

describe('what depends on what', () => {
  const tree = (health: PolicyInput['health'], more: Partial<PolicyInput> = {}) =>
    Object.fromEntries(dependencyTree(defineConfig({ app: { name: 'T' }, ...more, ...(health === undefined ? {} : { health }) })))

  const remote = (checks: NonNullable<PolicyInput['health']>['checks']) => [
    ...remoteChecks(defineConfig({ app: { name: 'T' }, health: { checks } })),
  ]

  it('follows from the kinds, as far as the policy has them', () => {
    expect(tree(undefined, { backup: { store: 'supabase://backups', encryption: 'none' } })).toEqual({
      database: [],
      supabase: [],
      'object-store': ['supabase'],
      rls: ['database'],
    })
    expect(tree({ checks: { rls: {}, db: { kind: 'database' }, 'supabase-auth': {}, jobs: {} } })).toEqual({
      rls: ['db'],
      db: [],
      'supabase-auth': [],
      jobs: ['db'],
    })
    const site = { url: 'https://shop.test/x' }
    expect(
      tree({
        checks: {
          page: { kind: 'url', ...site },
          cert: { kind: 'certificate', ...site },
          name: { kind: 'dns', ...site },
          other: { kind: 'url', url: 'https://other.test' },
        },
      }),
    ).toEqual({ page: ['name'], cert: ['name'], name: [], other: [] })
  })

  it('is what the policy says, with what that depends on', () => {
    expect(
      tree({ checks: { database: {}, supabase: { dependsOn: ['database'] }, supabase_auth: {}, stripe: {}, backup: { dependsOn: [] } } }),
    ).toEqual({
      database: [],
      supabase: ['database'],
      'supabase-auth': ['supabase', 'database'],
      stripe: [],
      backup: [],
    })
    expect(remote({ database: {}, supabase: { dependsOn: ['database'] }, supabase_auth: {}, stripe: {}, backup: {}, memory: {} })).toEqual([
      'stripe',
    ])
    expect(
      remote({ jobs: {}, db: { kind: 'database' }, supabase: {}, supabase_auth: {}, page: { kind: 'url', url: 'https://a.test' } }),
    ).toEqual([...['supabase', 'supabase-auth', 'page']])
    // Nothing explains itself, whatever the kinds say.
    expect(tree({ checks: { database: { dependsOn: ['rls'] }, rls: {} } })).toEqual({ database: ['rls'], rls: ['database'] })
  })
})

describe('the policy', () => {
  const wrong = (health: unknown, more: object = {}) => {
    try {
      defineConfig({ app: { name: 'T' }, health, ...more } as PolicyInput)
    } catch (error) {
      return (error as { detail: string }).detail
    }
    return 'accepted'
  }
  const checks = { database: {}, shop: { kind: 'url', url: 'https://shop.test' } }

  it.each([
    [{ checks: { ...checks, rls: { dependsOn: ['datbase'] } } }, /health\.checks\.rls\.dependsOn\[?\.?0.*did you mean "database"/],
    [{ checks: { a: { dependsOn: ['b'] }, b: { dependsOn: ['a'] } } }, /expected no circle/],
    [{ checks: { a: { dependsOn: ['a'] } } }, /expected no circle/],
    [{ checks, maintenance: [{ name: 'x', cron: '0 2 * * *' }] }, /expected "duration" beside "cron"/],
    ...[
      '99 2 * * *',
      '0 24 * * *',
      '0 2 0 * *',
      '0 2 * 13 *',
      '0 2 * * 8',
      '0 2 * *',
      '0 2 * * mond',
      '5/10 * * * *',
      '* * * * *-',
      '0 2-1 * * *',
    ].map((cron): [object, RegExp] => [{ checks, maintenance: [{ name: 'x', cron, duration: '1 hour' }] }, /expected a cron expression/]),
    [{ checks, maintenance: [{ name: 'x', from: '02:00' }] }, /"from" with "to"/],
    [{ checks, maintenance: [{ name: 'x', from: '2:00', to: '03:00' }] }, /expected a time of day/],
    [{ checks, maintenance: [{ name: 'x', from: '02:00', to: '03:00', days: ['so'] }] }, /expected days out of mon/],
    [{ checks, maintenance: [{ name: 'x', from: '02:00', to: '03:00', timezone: 'Berlin' }] }, /IANA time zone/],
    [{ checks, maintenance: [{ name: 'x', from: '02:00', to: '03:00', components: ['shp'] }] }, /did you mean "shop"/],
    [
      {
        checks,
        maintenance: [
          { name: 'x', from: '02:00', to: '03:00' },
          { name: 'x', from: '04:00', to: '05:00' },
        ],
      },
      /a name of its own/,
    ],
  ])('says of %j what is wrong', (health, message) => {
    expect(wrong(health)).toMatch(message)
  })

  it.each(['0 2 * * 0', '*/15 0-6,22 1,15 jan-mar MON-FRI', '30 4 1-7/2 * 7', '0 0 * * *'])(
    'takes the cron expression "%s", which croner takes too',
    async (cron) => {
      const window = { name: 'x', cron, duration: '1 hour' }
      expect(wrong({ checks, maintenance: [window] })).toBe('accepted')
      expect((await occurrences(window, 'UTC', new Date('2026-01-01'), new Date('2027-01-01'))).length).toBeGreaterThan(0)
    },
  )

  it('says which check the status page names that there is not', () => {
    for (const status of [{ checks: ['shp'] }, { plots: ['shp'] }, { names: { shp: 'Shop' } }, { groups: { All: ['shp'] } }])
      expect(wrong({ checks }, { status })).toMatch(/status\.(checks|plots|names|groups).*did you mean "shop"/)
    expect(wrong({ checks }, { status: { plots: ['shop'], groups: { All: ['database'] } } })).toBe('accepted')
  })
})
