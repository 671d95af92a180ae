export interface PageTable {
  table: string
  rows: number
  columns: readonly string[]
  /** The first rows, as JSON. */
  sample: readonly string[]
  json: string
  csv: string
}

export interface PageInput {
  app: string
  created: Date
  tables: readonly PageTable[]
  files: readonly string[]
  notIncluded: readonly { what: string; why: string }[]
}

/** The page that the person opens: no scripts, nothing loaded, every value escaped. */
export function renderPage({ app, created, tables, files, notIncluded }: PageInput): string {
  const filled = tables.filter(({ rows }) => rows > 0)
  const empty = tables.filter(({ rows }) => rows === 0).map(({ table }) => table)
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Your data at ${escapeHtml(app)}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #1a1a1a; background: #fff }
table { border-collapse: collapse; font-size: .85rem }
th, td { border: 1px solid #ccc; padding: .25rem .5rem; text-align: left; vertical-align: top; max-width: 24rem; overflow-wrap: anywhere }
th { background: #f2f2f2 }
.scroll { overflow-x: auto }
@media (prefers-color-scheme: dark) { body { color: #eee; background: #111 } th { background: #222 } th, td { border-color: #444 } a { color: #9cf } }
</style>
</head>
<body>
<h1>Your data at ${escapeHtml(app)}</h1>
<p>Made on <time datetime="${created.toISOString()}">${created.toISOString().slice(0, 16).replace('T', ' ')} UTC</time>, all of one moment.
Everything is in <code>data/</code>, once as JSON and once as CSV; <a href="manifest.json">manifest.json</a> lists every file with its SHA-256.</p>
<h2>Contents</h2>
<ul>
${filled.map(({ table, rows }, n) => `<li><a href="#t${n}">${escapeHtml(table)}</a>: ${count(rows, 'row')}</li>`).join('\n')}
</ul>
${filled.map(section).join('\n')}
${files.length === 0 ? '' : `<h2>Files</h2>\n<ul>\n${files.map((path) => `<li><a href="${escapeHtml(href(path))}">${escapeHtml(path)}</a></li>`).join('\n')}\n</ul>`}
${empty.length === 0 ? '' : `<h2>Looked at, nothing found</h2>\n<p>${empty.map(escapeHtml).join(', ')}</p>`}
${notIncluded.length === 0 ? '' : `<h2>Not included</h2>\n<ul>\n${notIncluded.map(({ what, why }) => `<li>${escapeHtml(what)}: ${escapeHtml(why)}</li>`).join('\n')}\n</ul>`}
</body>
</html>
`
}

function section({ table, rows, columns, sample, json, csv }: PageTable, n: number): string {
  const body = sample.map((line) => {
    const row = JSON.parse(line, exactNumbers) as Record<string, unknown>
    return `<tr>${columns.map((name) => `<td>${escapeHtml(show(row[name]))}</td>`).join('')}</tr>`
  })
  const more = rows > sample.length ? `<p>The first ${sample.length} of ${rows} rows; all of them are in the files.</p>` : ''
  return `<h2 id="t${n}">${escapeHtml(table)}</h2>
<p>${count(rows, 'row')}: <a href="${escapeHtml(href(json))}">JSON</a>, <a href="${escapeHtml(href(csv))}">CSV</a></p>
${more}<div class="scroll"><table><thead><tr>${columns.map((name) => `<th>${escapeHtml(name)}</th>`).join('')}</tr></thead>
<tbody>
${body.join('\n')}
</tbody></table></div>`
}

/** A number as it is written: a 64-bit id does not fit JavaScript's. */
function exactNumbers(_key: string, value: unknown, context?: { source?: string }): unknown {
  return typeof value === 'number' && context?.source !== undefined ? context.source : value
}

function show(value: unknown): string {
  if (value === null || value === undefined) return ''
  const text = typeof value === 'object' ? JSON.stringify(value) : String(value)
  return text.length > 500 ? `${text.slice(0, 500)}…` : text
}

function count(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? '' : 's'}`
}

function href(path: string): string {
  return path.split('/').map(encodeURIComponent).join('/')
}

const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' }

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => entities[character] as string)
}
