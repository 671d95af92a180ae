import { describe, expect, it } from 'vitest'
import { html, raw, safeHref } from '../../pages/html.ts'
import { document, htmlResponse } from '../../pages/layout.ts'
import { table } from '../../pages/parts.ts'
import { dayBars, linePlot } from '../../pages/plot.ts'
import { style } from '../../pages/style.ts'
import { spanText, time } from '../../pages/time.ts'

const hostile = `<img src=x onerror='alert("1")'>&`

describe('html', () => {
  it('lets no text turn round what stands beside it', () => {
    const text = ['\u202e', '\u2066', '\u202a'].map((character) => html`by ${`${character}evil`} at noon`.markup)
    expect(text).toEqual(Array(3).fill('by \ufffdevil at noon'))
    expect(html`${'שלום'}`.markup).toBe('שלום')
  })

  it('escapes text in elements and in attributes', () => {
    expect(html`<p title="${hostile}">${hostile}</p>`.markup).toBe(
      '<p title="&lt;img src=x onerror=&#39;alert(&quot;1&quot;)&#39;&gt;&amp;">&lt;img src=x onerror=&#39;alert(&quot;1&quot;)&#39;&gt;&amp;</p>',
    )
  })

  it('joins lists, keeps markup, and leaves nothing out but what is nothing', () => {
    expect(html`${[html`<b>1</b>`, '<', 0]}${null}${undefined}${false}${raw('<hr>')}`.markup).toBe('<b>1</b>&lt;0<hr>')
  })

  it('lets links lead to sites and paths only', () => {
    expect(safeHref('https://runbooks.example/db')).toBe('https://runbooks.example/db')
    expect(safeHref('/ops/jobs')).toBe('/ops/jobs')
    for (const bad of ['javascript:alert(1)', ' javascript:alert(1)', 'data:text/html,x', '//evil.example', '/\\evil.example', 'relative'])
      expect(safeHref(bad)).toBeNull()
  })
})

describe('a document', () => {
  it('says in its title what was done, which a screen reader reads first', () => {
    const titled = (flash?: { tone: 'ok' | 'bad'; text: string }) =>
      /<title>(.*)<\/title>/.exec(document({ title: 'Jobs', app: 'Shop', home: '/', main: '', flash }).markup)?.[1]
    expect(titled()).toBe('Jobs · Shop')
    expect(titled({ tone: 'ok', text: 'sweep <b> is queued.' })).toBe('sweep &lt;b&gt; is queued. · Jobs · Shop')
    expect(titled({ tone: 'bad', text: 'There is no job.' })).toBe('Error: There is no job. · Jobs · Shop')
  })

  it('escapes whatever it is told, and lets no script run', async () => {
    const response = htmlResponse(
      document({
        title: hostile,
        app: hostile,
        home: '/ops',
        nav: [{ href: '/ops', text: hostile }],
        flash: { tone: 'ok', text: hostile },
        main: [
          table({ caption: hostile, columns: [{ name: hostile, cell: () => hostile }], rows: [1], empty: '' }),
          dayBars({ days: ['up'], summary: hostile }),
        ],
      }),
    )
    const text = await response.text()
    expect(text).not.toContain('<img')
    expect(response.headers.get('content-security-policy')).toMatch(/^default-src 'none'; style-src 'sha256-[\w+/]+=*'; img-src data:;/)
    expect(style).not.toMatch(/<\/style/i)
  })
})

describe('bars of days', () => {
  it('writes a run of equal days once', () => {
    const days = [...Array(50).fill('up'), 'down', ...Array(39).fill('up')] as ('up' | 'down')[]
    const { markup } = dayBars({ days, summary: '1 day with an outage' })
    expect(markup).toContain('<path class="d-up" d="M0 5h90"/>')
    expect(markup).toContain('<path class="d-down" d="M50 5h1"/>')
    expect(markup.length).toBeLessThan(300)
  })
})

describe('a plot', () => {
  const from = new Date('2026-11-21T00:00:00Z')
  const to = new Date('2026-11-21T01:00:00Z')
  const plot = (values: (number | null)[]) =>
    linePlot({
      title: 'Latency',
      description: 'p95 of the last hour',
      series: [{ name: 'p95', points: values.map((value, index) => ({ at: new Date(from.getTime() + index * 600_000), value })) }],
      from,
      to,
      format: (value) => `${value} s`,
      formatTime: (at) => at.toISOString().slice(11, 16),
      empty: 'Nothing was measured.',
    }).markup

  it('leaves a gap where nothing was measured, and says so in its table', () => {
    const markup = plot([1, 2, null, 4])
    expect(markup.match(/class="ln s1" d="(M[^"]+)"/)?.[1]?.match(/M/g)).toHaveLength(2)
    expect(markup).toContain('no data')
  })

  it('draws no line of nothing', () => {
    expect(plot([null, null])).toContain('Nothing was measured.')
  })
})

describe('times', () => {
  it('are said in the zone, with UTC beside them', () => {
    const { markup } = time(new Date('2026-07-01T22:30:00Z'), 'Europe/Berlin')
    expect(markup).toContain('datetime="2026-07-01T22:30:00.000Z"')
    expect(markup).toContain('2026-07-01 22:30 UTC')
    expect(markup).toContain('2026-07-02 00:30')
  })

  it.each([
    [250, '250 ms'],
    [1_000, '1 second'],
    [90 * 60_000, '90 minutes'],
    [60 * 60_000, '1 hour'],
    [3 * 86_400_000, '3 days'],
    [0, '0 ms'],
  ])('%d ms is %s', (ms, text) => expect(spanText(ms)).toBe(text))
})
