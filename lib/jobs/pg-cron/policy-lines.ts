import type { PgCronImport } from './import-jobs.ts'

/** The parts of a policy that replace pg_cron's jobs, to be put into `defineConfig({ … })`: TypeScript, with what to know as comments. */
export function policyLines({ jobs, retention, left, warnings }: PgCronImport): string {
  const lines = warnings.map(comment)
  for (const { was, reason } of left) lines.push(comment(`Left out: ${was}: ${reason}`))
  if (retention.length > 0) lines.push('retention: [', ...retention.map((rule) => `  ${literal(rule)},`), '],')
  if (jobs.length > 0) {
    lines.push('jobs: {')
    for (const { id, was, name, schedule, steps, warnings: ofJob } of jobs) {
      lines.push(`  ${comment(`${was === name ? '' : `"${was}"; `}switch it off with: select cron.unschedule(${id})`)}`)
      for (const warning of ofJob) lines.push(`  ${comment(warning)}`)
      lines.push(`  ${literal(name, true)}: {`)
      if (schedule !== null) lines.push(`    schedule: ${literal(schedule)},`)
      lines.push('    steps: [', ...steps.map((step) => `      ${literal(step)},`), '    ],', '  },')
    }
    lines.push('},')
  }
  return lines.join('\n')
}

/** One line, whatever a job's name or command holds. */
function comment(text: string): string {
  return `// ${text.replaceAll(/[\s\u2028\u2029]+/g, ' ').trim()}`
}

/** A value as TypeScript, on one line; a string with line breaks as a template. */
function literal(value: unknown, key = false): string {
  if (Array.isArray(value)) return `[${value.map((one) => literal(one)).join(', ')}]`
  if (typeof value === 'object' && value !== null)
    return `{ ${Object.entries(value)
      .map(([name, one]) => `${literal(name, true)}: ${literal(one)}`)
      .join(', ')} }`
  if (typeof value !== 'string') return JSON.stringify(value)
  // A key "__proto__" in quotes would set the prototype.
  if (key) return value === '__proto__' ? `['__proto__']` : /^[A-Za-z_$][\w$]*$/.test(value) ? value : quoted(value)
  return value.includes('\n') ? `\`${value.replaceAll(/[`\\]|\$\{/g, '\\$&')}\`` : quoted(value)
}

function quoted(value: string): string {
  // JSON's escapes are TypeScript's; of the quotes only the one around needs another.
  return `'${JSON.stringify(value).slice(1, -1).replaceAll('\\"', '"').replaceAll("'", "\\'")}'`
}
