import { nearest } from '../nearest.ts'
import { defaultSeverities, type IncidentsPolicy } from './incidents.ts'

interface Telling {
  severity?: string | undefined
  notify?: string[] | undefined
}

interface Referring {
  alerts?:
    | {
        channels?: Record<string, unknown> | undefined
        rules?: (Telling & { name: string })[] | undefined
        checks?: false | Record<string, false | Telling> | undefined
        events?: Record<string, false | Telling> | undefined
      }
    | undefined
  incidents?: IncidentsPolicy | undefined
}

interface Issue {
  path: PropertyKey[]
  message: string
  input: unknown
}

/** Severities that the matrix does not have, and channels that nobody is told on. */
export function referencesOfIncidents({ alerts, incidents }: Referring): Issue[] {
  const severities = Object.keys(incidents?.severities ?? defaultSeverities)
  const matrix = incidents?.severities === undefined ? 'the default severities' : '"incidents.severities"'
  // Without channels there may be Slack, by its address in the environment.
  const channels = alerts?.channels === undefined ? ['slack'] : Object.keys(alerts.channels)
  const issues: Issue[] = []
  const check = (path: PropertyKey[], given: string, known: readonly string[], where: string) => {
    if (known.includes(given)) return
    const near = nearest(given, known)
    const hint = near === undefined ? '' : `; did you mean "${near}"?`
    issues.push({
      path,
      message: `expected one of ${where} (${known.length === 0 ? 'there is none' : known.join(', ')})${hint}`,
      input: given,
    })
  }
  const telling = (path: PropertyKey[], one: false | Telling) => {
    if (one === false) return
    if (one.severity !== undefined) check([...path, 'severity'], one.severity, severities, matrix)
    for (const [index, name] of (one.notify ?? []).entries()) check([...path, 'notify', index], name, channels, '"alerts.channels"')
  }
  for (const [index, rule] of (alerts?.rules ?? []).entries()) telling(['alerts', 'rules', index], rule)
  for (const part of ['checks', 'events'] as const)
    for (const [name, one] of Object.entries(alerts?.[part] || {})) telling(['alerts', part, name], one)
  for (const [name, severity] of Object.entries(incidents?.severities ?? {}))
    for (const list of ['notify', 'escalateTo'] as const)
      for (const [index, channel] of (severity[list] ?? []).entries())
        check(['incidents', 'severities', name, list, index], channel, channels, '"alerts.channels"')
  return issues
}
