import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { serveRoutes } from '../../lib/http/index.ts'
import type { Context } from '../../lib/platform/context.ts'
import { allRoutes } from '../../lib/routes/index.ts'
import { type LocalServer, serve } from '../../local/server.ts'
import { testContext } from '../support/context.ts'
import { useTestDatabase } from '../support/database.ts'
import { type Browser, openBrowser, type Page, type View, violationsOf, inWindow as visitInWindow } from './browser.ts'
import { badDay, keyOf, type Operations, pagesOf, policy } from './operations.ts'

/*
 * Both pages as people meet them: in Chromium, over HTTP. `SCREENSHOTS=DIR` leaves a picture of each page there, to be looked at.
 */

const test = useTestDatabase()
let browser: Browser
let server: LocalServer
let day: Operations
let ctx: Context

beforeAll(async () => {
  ctx = testContext(test.db, { config: policy })
  day = await badDay(ctx)
  const handle = serveRoutes(allRoutes({ wake: async () => undefined }), ({ actor, signal, deadline }) => ({
    ...ctx,
    actor,
    signal,
    deadline,
  }))
  server = await serve({
    port: 0,
    handle: (request) =>
      handle(request, {
        clientAddress: '127.0.0.1',
        deadline: new Date(Date.now() + 60_000),
        waitUntil: (work) => void work.catch(() => undefined),
      }),
  })
  browser = await openBrowser()
})
afterAll(async () => {
  await browser?.close()
  await server?.stop(0)
})

const desk = { width: 1200, height: 800 }
const phone = { width: 360, height: 740 }
const tablet = { width: 768, height: 1024 }

const inWindow = (view: View, visit: (page: Page) => Promise<void>) => visitInWindow(browser, { viewport: desk, ...view }, visit)

async function signIn(page: Page, role: 'admin' | 'developer' | 'support' | 'viewer', to = '/ops'): Promise<void> {
  await page.goto(`${server.url}${to}`)
  await page.getByLabel('Key', { exact: true }).fill(keyOf(role))
  await page.getByRole('button', { name: 'Sign in with the key' }).click()
  await page.waitForURL(`${server.url}${to}`)
}

const said = async (page: Page) => (await page.locator('[role=status]').textContent())?.trim()

const schemes: [string, View][] = [
  ['in light', { colorScheme: 'light' }],
  ['in dark in the narrowest window of tables', { colorScheme: 'dark', viewport: { width: 961, height: 800 } }],
  ['on a phone', { colorScheme: 'light', viewport: phone }],
  ['on a tablet in dark', { colorScheme: 'dark', viewport: tablet }],
]

describe('every page', () => {
  it.each(schemes)('is accessible %s, and not wider than the window', async (name, view) => {
    await inWindow(view, async (page) => {
      const look = async (path: string) => {
        await page.goto(`${server.url}${path}`)
        expect([path, await violationsOf(page)]).toEqual([path, []])
        const wider = await page.evaluate<number>('document.documentElement.scrollWidth - document.documentElement.clientWidth')
        expect([path, wider]).toEqual([path, 0])
        await picture(page, path, name)
      }
      await look('/status')
      await look('/status/stripe')
      await look('/ops/sign-in')
      await signIn(page, 'admin')
      const questions = [`/ops/gdpr/${day.request}/refuse`, '/ops/webhooks/replay-dead']
      for (const path of [...pagesOf(day), ...questions]) await look(path)
    })
  })
})

describe('an operator', () => {
  it('signs in with a key, where they were going, and out', async () => {
    await inWindow({}, async (page) => {
      await signIn(page, 'viewer', '/ops/jobs')
      expect(await page.title()).toContain('Jobs')
      await page.getByRole('button', { name: 'Sign out' }).click()
      await page.waitForURL(`${server.url}/ops/sign-in`)
      expect(await said(page)).toBe('You are signed out.')
      await page.goto(`${server.url}/ops`)
      expect(page.url()).toBe(`${server.url}/ops/sign-in`)
    })
  })

  it('who mistypes the key is where it has to be typed again, and hears why', async () => {
    await inWindow({ viewport: phone, colorScheme: 'dark' }, async (page) => {
      await page.goto(`${server.url}/ops/sign-in`)
      await page.getByLabel('Key', { exact: true }).fill('ck_wrong')
      await page.keyboard.press('Enter')
      await page.locator('.flash.bad').first().textContent()
      const field = await page.evaluate<string[]>(
        `[document.activeElement.id, document.activeElement.value,
          document.getElementById(document.activeElement.getAttribute('aria-describedby').split(' ')[0]).textContent]`,
      )
      expect(field).toEqual(['key', '', 'The operator key is not known, or was revoked.'])
      expect(await violationsOf(page)).toEqual([])
    })
  })

  it('without JavaScript acknowledges an incident, ticks off its checklist and resolves it', async () => {
    await inWindow({ javaScriptEnabled: false }, async (page) => {
      await signIn(page, 'developer')
      await page
        .getByRole('button', { name: /^Acknowledge/ })
        .first()
        .click()
      expect(await said(page)).toContain('is acknowledged')
      await page.getByRole('button', { name: 'Done item 1', exact: true }).click()
      expect(await said(page)).toMatch(/^1 of \d+ items are done/)
      await page.getByLabel('Root cause').fill('Their certificate was over.')
      await page.getByRole('button', { name: 'Resolve', exact: true }).click()
      expect(await said(page)).toContain('is resolved')
      expect(await page.locator('ol.line').textContent()).toContain('acknowledged')
    })
  })

  it('replays a dead event and runs a job now', async () => {
    await inWindow({}, async (page) => {
      await signIn(page, 'developer', '/ops/webhooks')
      await page
        .getByRole('button', { name: `Replay event ${day.event}`, exact: true })
        .first()
        .click()
      expect(await said(page)).toContain('is due again')
      expect(await page.getByRole('button', { name: `Replay event ${day.event}` }).count()).toBe(0)
      await page.goto(`${server.url}/ops/jobs`)
      await page.getByRole('button', { name: 'Run now sweep', exact: true }).click()
      expect(await said(page)).toBe('sweep is queued; it begins within seconds.')
      // Loading the page again repeats neither the action nor what it said.
      await page.goto(page.url())
      expect(await said(page)).toBe('')
    })
  })

  it('on a phone silences an alert and announces maintenance', async () => {
    await inWindow({ viewport: phone }, async (page) => {
      await signIn(page, 'developer', '/ops/alerts')
      await page
        .getByRole('link', { name: /^Silence/ })
        .first()
        .click()
      await page.getByLabel('Why').fill('Known since this morning.')
      await page.getByRole('button', { name: 'Silence', exact: true }).click()
      expect(await said(page)).toMatch(/^Silent until/)
      await page.goto(`${server.url}/ops/maintenance`)
      await page.getByLabel('Title').fill('New disks')
      await page.getByLabel(/^Ends/ as unknown as string).fill('2031-03-30T01:30')
      await page.getByRole('button', { name: 'Announce' }).click()
      expect(await said(page)).toMatch(/^Ends .*: expected at most 30 days after the beginning\. Nothing was done\.$/)
      expect(await page.title()).toMatch(/^Error: Ends /)
      // What was typed is there, what is wrong is where the cursor is, and is read out with the field.
      const field = await page.evaluate<string[]>(
        `[document.activeElement.id, document.activeElement.value, document.getElementById('title').value,
          document.activeElement.getAttribute('aria-describedby').split(' ').map((id) => document.getElementById(id).textContent).join()]`,
      )
      expect(field).toEqual(['endsAt', '2031-03-30T01:30', 'New disks', 'expected at most 30 days after the beginning'])
      expect(await violationsOf(page)).toEqual([])
    })
  })

  it('is asked, without JavaScript, before what cannot be taken back, and may change their mind', async () => {
    await inWindow({ javaScriptEnabled: false }, async (page) => {
      await signIn(page, 'support', `/ops/gdpr/${day.request}`)
      await page.getByRole('link', { name: 'Refuse…' }).click()
      expect(await page.locator('h1').textContent()).toBe('Refuse a request')
      await page.getByRole('link', { name: 'Cancel' }).click()
      await page.getByRole('link', { name: 'Approve…' }).click()
      expect(await page.locator('main').textContent()).toContain('Nothing of it comes back.')
      await page.getByRole('button', { name: 'Approve and erase' }).click()
      expect(await said(page)).toBe('Approved: it is carried out now.')
    })
  })

  it('whose session ends while they write signs in, and finds what they wrote', async () => {
    await inWindow({ javaScriptEnabled: false }, async (page) => {
      await signIn(page, 'developer', `/ops/incidents/${day.resolved}`)
      await page.getByLabel('For operators').fill('The index was dropped\nby hand.')
      await test.db.execute('update caretaker.sessions set ended_at = now()')
      await page.getByRole('button', { name: 'Add' }).click()
      expect(await said(page)).toContain('what you wrote is kept')
      await page.getByLabel('Key', { exact: true }).fill(keyOf('developer'))
      await page.getByRole('button', { name: 'Sign in with the key' }).click()
      await page.getByRole('button', { name: 'Add' }).click()
      expect(await said(page)).toBe('The note is in the timeline.')
      expect(await page.locator('ol.line').textContent()).toContain('The index was dropped\nby hand.')
    })
  })

  it('prints an incident as black on white, without what only a screen has', async () => {
    await inWindow({ colorScheme: 'dark' }, async (page) => {
      await signIn(page, 'developer', `/ops/incidents/${day.resolved}`)
      await page.emulateMedia({ media: 'print' })
      const seen = await page.evaluate<unknown[]>(
        `[[...document.querySelectorAll('nav, form, button')].filter((one) => one.getClientRects().length > 0).length,
          getComputedStyle(document.querySelector('ol.line')).color, document.querySelector('ol.line').innerText.includes('resolved')]`,
      )
      expect(seen).toEqual([0, 'rgb(27, 31, 38)', true])
    })
  })

  it('reaches everything with the keyboard, the content first', async () => {
    await inWindow({}, async (page) => {
      await signIn(page, 'viewer')
      await page.goto(`${server.url}/ops/health`)
      await page.keyboard.press('Tab')
      const focused = () =>
        page.evaluate<string>('document.activeElement.textContent + " " + getComputedStyle(document.activeElement).outlineStyle')
      expect(await focused()).toBe('Skip to content solid')
      await page.keyboard.press('Enter')
      expect(await page.evaluate<string>('document.activeElement.id')).toBe('main')
      await page.keyboard.press('Tab')
      expect(await focused()).toMatch(/ solid$/)
    })
  })

  it('is let run no script by the pages, whatever stands in them', async () => {
    const window = await browser.newContext({ viewport: desk })
    const page = await window.newPage()
    await signIn(page, 'viewer')
    const refused = page.evaluate<string>(
      `new Promise((resolve) => { document.addEventListener('securitypolicyviolation', (event) => resolve(event.effectiveDirective)); const script = document.createElement('script'); script.textContent = 'document.title = 1'; document.body.append(script) })`,
    )
    expect(await refused).toBe('script-src-elem')
    await window.close()
  })
})

/** Kept only where somebody wants to look. */
async function picture(page: Page, path: string, name: string): Promise<void> {
  const folder = process.env.SCREENSHOTS
  if (folder === undefined) return
  await mkdir(folder, { recursive: true })
  const file = path.replaceAll(/[0-9a-f]{8}-[0-9a-f-]+/g, (id) => (id === day.incident ? 'open' : 'one')).replaceAll(/[^a-z0-9]+/g, '_')
  await page.screenshot({ path: join(folder, `${file}-${name.replaceAll(' ', '_')}.png`), fullPage: true })
}
