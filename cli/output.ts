import type { Output } from './command.ts'

/**
 * Text for a terminal: what would steer it (escape sequences, which a webhook's text or a log line may hold), or turn round what stands
 * beside it, is shown as a sign of its own. Lines and tabs stay.
 */
export function shown(text: string): string {
  return text.replace(/(?![\n\t]|\r\n)\p{Cc}|[\u202a-\u202e\u2066-\u2069]/gu, '\ufffd')
}

/** Writes for a person, or with `json` one document on stdout and all else on stderr. */
export function createOutput(options: {
  json: boolean
  stdout: NodeJS.WriteStream
  stderr: NodeJS.WriteStream
}): Output & { clear(): void } {
  const { json, stdout, stderr } = options
  let drawn = false
  let last = 0
  const clear = () => {
    if (drawn) stderr.write('\r\u001b[2K')
    drawn = false
  }
  return {
    json,
    clear,
    result(value, human) {
      clear()
      stdout.write(json ? `${JSON.stringify(value, null, 2)}\n` : human === '' ? '' : `${shown(human).replace(/\n+$/, '')}\n`)
    },
    line(text) {
      clear()
      ;(json ? stderr : stdout).write(`${shown(text)}\n`)
    },
    progress(text) {
      if (stderr.isTTY) {
        stderr.write(`\r\u001b[2K${shown(text).slice(0, (stderr.columns ?? 80) - 1)}`)
        drawn = true
        return
      }
      const now = performance.now()
      if (now - last < 1_000) return
      last = now
      stderr.write(`${shown(text)}\n`)
    },
  }
}

/**
 * Rows under their headings, in columns as wide as they need to be. Numbers stand to the right. Where a terminal of
 * `columns` is too narrow, the last column is broken into lines.
 */
export function table(
  headings: readonly string[],
  rows: readonly (readonly (string | number | null | undefined)[])[],
  columns: number | undefined = process.stdout.isTTY ? process.stdout.columns : undefined,
): string {
  const cells = rows.map((row) => row.map((cell) => (cell === null || cell === undefined ? '–' : String(cell).replaceAll(/\r?\n/g, ' '))))
  const numeric = headings.map(
    (_, column) => rows.length > 0 && rows.every((row) => typeof row[column] === 'number' || row[column] === null),
  )
  const widths = headings.map((heading, column) => Math.max(heading.length, ...cells.map((row) => row[column]?.length ?? 0)))
  const before = widths.slice(0, -1).reduce((sum, width) => sum + width + 2, 0)
  const left = (columns ?? Number.POSITIVE_INFINITY) - before
  const last = widths.length - 1
  const widest = widths[last] as number
  // Narrower than this it is more broken than read: it goes below its row.
  const below = left < 20 && widest > left
  if (!below) widths[last] = Math.min(widest, left)
  const draw = (row: readonly string[]) => {
    const drawn = row.map((cell, column) => {
      if (numeric[column]) return cell.padStart(widths[column] as number)
      if (column < last) return cell.padEnd(widths[column] as number)
      return below ? cell : wrapped(cell, widths[column] as number).join(`\n${' '.repeat(before)}`)
    })
    const text = below ? drawn.slice(0, -1).join('  ').trimEnd() : drawn.join('  ').trimEnd()
    return below && row[last] !== '–' ? `${text}\n    ${wrapped(row[last] as string, (columns as number) - 4).join('\n    ')}` : text
  }
  const rule = widths.slice(0, below ? -1 : undefined).map((width) => '─'.repeat(width))
  return [draw(headings), rule.join('  '), ...cells.map(draw)].join('\n')
}

/** The text in lines of at most `width`, broken at spaces; a longer word keeps a line to itself. */
export function wrapped(text: string, width: number): string[] {
  const lines = ['']
  for (const word of text.split(' ')) {
    const line = lines.at(-1) ?? ''
    if (line !== '' && line.length + 1 + word.length > width) lines.push(word)
    else lines[lines.length - 1] = line === '' ? word : `${line} ${word}`
  }
  return lines
}

/** "2 h 5 min", "340 ms": the two largest units. */
export function duration(ms: number): string {
  if (ms < 1_000) return `${Math.round(ms)} ms`
  if (ms < 60_000) return `${(ms / 1_000).toFixed(1)} s`
  const units: [string, number][] = [
    ['d', 86_400_000],
    ['h', 3_600_000],
    ['min', 60_000],
    ['s', 1_000],
  ]
  const first = units.findIndex(([, size]) => ms >= size)
  return units
    .slice(first, first + 2)
    .map(([unit, size], index) => [Math.floor((index === 0 ? ms : ms % (units[first]?.[1] ?? 1)) / size), unit] as const)
    .filter(([count]) => count > 0)
    .map(([count, unit]) => `${count} ${unit}`)
    .join(' ')
}

/** "1.3 GB": decimal units, as disks are sold. */
export function bytes(count: number): string {
  if (count < 1_000) return `${count} B`
  const units = ['kB', 'MB', 'GB', 'TB']
  const power = Math.min(units.length, Math.floor(Math.log10(count) / 3))
  return `${(count / 1_000 ** power).toFixed(1)} ${units[power - 1]}`
}
