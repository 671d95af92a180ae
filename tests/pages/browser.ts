import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { expect } from 'vitest'

/*
 * Chromium for the tests of pages: the machine's own, driven by playwright-core out of .ci, whose types the project does without.
 */

const fromCi = createRequire(new URL('../../.ci/package.json', import.meta.url))
const executables = ['chromium', 'chromium-browser', 'google-chrome']

interface Locator {
  click(): Promise<void>
  fill(text: string): Promise<void>
  count(): Promise<number>
  first(): Locator
  textContent(): Promise<string | null>
  focus(): Promise<void>
  selectOption(value: string): Promise<unknown>
}

export interface Page {
  goto(url: string): Promise<{ status(): number; headers(): Record<string, string> } | null>
  url(): string
  title(): Promise<string>
  locator(selector: string): Locator
  getByRole(role: string, options: { name?: string | RegExp; exact?: boolean }): Locator
  getByLabel(text: string, options?: { exact?: boolean }): Locator
  getByText(text: string | RegExp): Locator
  keyboard: { press(key: string): Promise<void> }
  evaluate<T, A = undefined>(script: string | ((argument: A) => T | Promise<T>), argument?: A): Promise<T>
  emulateMedia(options: { media: 'print' | 'screen' }): Promise<void>
  screenshot(options: { path: string; fullPage: boolean }): Promise<unknown>
  waitForURL(url: string | RegExp): Promise<void>
  on(event: 'console', listen: (message: { type(): string; text(): string }) => void): void
  on(event: 'pageerror', listen: (error: Error) => void): void
  on(event: 'requestfailed', listen: (request: { url(): string }) => void): void
}

export interface View {
  colorScheme?: 'light' | 'dark'
  viewport?: { width: number; height: number }
  javaScriptEnabled?: boolean
}

interface BrowserContext {
  newPage(): Promise<Page>
  close(): Promise<void>
}

export interface Browser {
  newContext(options: View & { bypassCSP?: boolean }): Promise<BrowserContext>
  close(): Promise<void>
}

/** Chromium with an empty profile. `close` leaves nothing behind. */
export async function openBrowser(): Promise<Browser> {
  const places = (process.env.PATH ?? '').split(delimiter)
  const executablePath = executables.flatMap((name) => places.map((place) => join(place, name))).find((path) => existsSync(path))
  if (executablePath === undefined)
    throw new Error(`No Chromium: expected one of ${executables.join(', ')} on the path. .ci/run installs it.`)
  const { chromium } = fromCi('playwright-core') as {
    chromium: { launch(options: object): Promise<Browser> }
  }
  const home = await mkdtemp(join(tmpdir(), 'caretaker-browser-'))
  const browser = await chromium.launch({
    executablePath,
    headless: true,
    env: { ...process.env, HOME: home, XDG_CONFIG_HOME: home, XDG_CACHE_HOME: home },
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  })
  return {
    newContext: (options) => browser.newContext(options),
    close: async () => {
      await browser.close()
      await rm(home, { recursive: true, force: true, maxRetries: 5 })
    },
  }
}

export interface Violation {
  id: string
  impact: string
  help: string
  nodes: string[]
}

const axeSource = fromCi.resolve('axe-core/axe.min.js')

/** What axe-core objects to on the page, by WCAG 2.2 AA and its own best practices. The page itself lets no script in: `bypassCSP`. */
export async function violationsOf(page: Page): Promise<Violation[]> {
  const { readFile } = await import('node:fs/promises')
  await page.evaluate(await readFile(axeSource, 'utf8'))
  return page.evaluate<Violation[]>(`axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) =>
    violations.map(({ id, impact, help, nodes }) => ({ id, impact, help, nodes: nodes.slice(0, 5).map((node) => node.html.slice(0, 160) + ' | ' + (node.any[0]?.message ?? '')) })))`)
}

/** A form that comes back does so with the status of what is wrong with it, which Chromium notes. */
const refusal = /^Failed to load resource: the server responded with a status of (?:401|409|422)/

/** Visits in a new window. At its end the page must not have complained about anything. */
export async function inWindow(browser: Browser, view: View, visit: (page: Page) => Promise<void>): Promise<void> {
  const window = await browser.newContext({ bypassCSP: true, ...view })
  const page = await window.newPage()
  const complaints: string[] = []
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type()) && !refusal.test(message.text())) complaints.push(message.text())
  })
  page.on('pageerror', (error) => complaints.push(error.message))
  page.on('requestfailed', (request) => complaints.push(`failed: ${request.url()}`))
  try {
    await visit(page)
    expect(complaints).toEqual([])
  } finally {
    await window.close()
  }
}
