import type { DatabaseReport } from '../lib/maintenance/index.ts'
import { bytes, duration, table } from './output.ts'

type Section = DatabaseReport['sections'][number]
type Figure = Section['findings'][number]['figures'][string]

/** The sections of a database report for a person: a table each, and below it what to do. */
export function databaseSections(sections: readonly Section[]): string {
  return sections.map(describe).join('\n\n')
}

function describe({ title, findings, note }: Section): string {
  const [first] = findings
  const lines = [title]
  if (first !== undefined) {
    const columns = Object.keys(first.figures)
    const headings = columns.map((name) => name.replaceAll('_', ' ').replace(/ (bytes|ms)$/, ''))
    const rows = findings.map((finding) => columns.map((name) => written(name, finding.figures[name] ?? null)))
    // A statement is long: what stands last is broken into lines.
    const wordy = findings.some((finding) => finding.object.length > 60)
    lines.push(
      wordy
        ? table(
            [...headings, 'what'],
            rows.map((row, index) => [...row, findings[index]?.object]),
          )
        : table(
            ['what', ...headings],
            rows.map((row, index) => [findings[index]?.object, ...row]),
          ),
    )
  } else if (note === undefined) lines.push('  Nothing.')
  if (note !== undefined) lines.push(`  ! ${note}`)
  const advised = findings.filter((finding) => finding.advice !== undefined)
  return [...lines, ...advised.map((finding) => `  → ${finding.object}: ${finding.advice}`)].join('\n')
}

function written(name: string, figure: Figure): string | number | null {
  if (figure === null) return null
  if (figure instanceof Date) return figure.toISOString().slice(0, 16).replace('T', ' ')
  if (typeof figure === 'boolean') return figure ? 'yes' : 'no'
  if (typeof figure === 'string') return figure
  if (/(^|_)bytes$/.test(name)) return bytes(figure)
  if (/(^|_)ms$/.test(name)) return duration(figure)
  if (/share|ratio/.test(name)) return `${(100 * figure).toFixed(figure < 0.1 ? 1 : 0)} %`
  return figure.toLocaleString('en')
}
