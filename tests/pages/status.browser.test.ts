import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { serveRoutes } from '../../lib/http/index.ts'
import { status } from '../../lib/routes/status.ts'
import { type LocalServer, serve } from '../../local/server.ts'
import { healthContext } from '../health/support.ts'
import { insertSyntheticYear } from '../health/synthetic-history.ts'
import { useTestDatabase } from '../support/database.ts'
import { type Browser, openBrowser, type Page, type View, violationsOf, inWindow as visitInWindow } from './browser.ts'

/* The status page over a year of many systems, in Chromium. */

const test = useTestDatabase()
let browser: Browser
let server: LocalServer

beforeAll(async () => {
  const names = Array.from({ length: 12 }, (_, n) => `check-${n}-with-a-name-that-is-rather-long`)
  const checks = Object.fromEntries(names.map((name) => [name, { kind: 'url', url: `https://${name}.test/` }]))
  const ctx = healthContext(test.db, { policy: { health: { checks }, status: { groups: { Others: names.slice(6) } } } })
  await insertSyntheticYear(test.db, ctx.env.CARETAKER_ENVIRONMENT ?? '', ['', ...names], ctx.clock.now())
  const handle = serveRoutes(status(), ({ actor, signal, deadline }) => ({ ...ctx, actor, signal, deadline }))
  server = await serve({
    port: 0,
    handle: (request) =>
      handle(request, { clientAddress: '127.0.0.1', deadline: new Date(ctx.clock.now().getTime() + 60_000), waitUntil: () => undefined }),
  })
  browser = await openBrowser()
})
afterAll(async () => {
  await browser?.close()
  await server?.stop(0)
})

const inWindow = (view: View, visit: (page: Page) => Promise<void>) => visitInWindow(browser, view, visit)

describe.each([
  ['light', { width: 1200, height: 800 }],
  ['dark', { width: 1200, height: 800 }],
  ['light', { width: 360, height: 740 }],
  ['dark', { width: 320, height: 640 }],
] as const)('in %s at %j', (colorScheme, viewport) => {
  it.each(['/status', '/status/check-3-with-a-name-that-is-rather-long'])(
    '%s is accessible and not wider than the window',
    async (path) => {
      await inWindow({ colorScheme, viewport }, async (page) => {
        expect((await page.goto(`${server.url}${path}`))?.status()).toBe(200)
        expect(await violationsOf(page)).toEqual([])
        expect(await page.evaluate<number>('document.documentElement.scrollWidth - document.documentElement.clientWidth')).toBe(0)
      })
    },
  )
})

it('leads, by the keyboard and without JavaScript, past the navigation, to a system and back', async () => {
  await inWindow({ javaScriptEnabled: false }, async (page) => {
    await page.goto(`${server.url}/status`)
    await page.keyboard.press('Tab')
    await page.keyboard.press('Enter')
    expect(page.url()).toBe(`${server.url}/status#main`)
    await page.getByRole('link', { name: /^Check 2/ }).click()
    await page.waitForURL(/\/status\/check-2/)
    expect(await page.locator('h1').textContent()).toContain('Check 2')
    // The bars are a picture with words.
    expect(await page.getByRole('img', { name: /^90 days: .*% uptime/ }).count()).toBe(1)
    await page.getByRole('link', { name: 'All systems' }).click()
    await page.waitForURL(`${server.url}/status`)
  })
})
