export interface Sample {
  name: string
  labels: Record<string, string>
  value: number
}

export interface Family {
  type: string
  help?: string
  samples: Sample[]
}

/**
 * Reads the text format 0.0.4 as strictly as Prometheus does, and then some. @throws on a sample without its type, a type
 * told twice or out of place, a label set told twice, buckets that are not cumulative or disagree with the count.
 */
export function parsePrometheus(text: string): Map<string, Family> {
  if (!text.endsWith('\n')) throw new Error('the last line has no end')
  const families = new Map<string, Family>()
  const helps = new Map<string, string>()
  let current: [string, Family] | undefined
  for (const line of text.slice(0, -1).split('\n')) {
    const [, kind, name = '', rest = ''] = /^# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.*)$/.exec(line) ?? []
    if (kind === 'HELP') {
      if (helps.has(name)) throw new Error(`HELP twice: ${name}`)
      helps.set(
        name,
        rest.replaceAll(/\\([\\n])/g, (_all, c: string) => (c === 'n' ? '\n' : c)),
      )
    } else if (kind === 'TYPE') {
      if (families.has(name)) throw new Error(`TYPE twice: ${name}`)
      if (!['counter', 'gauge', 'histogram'].includes(rest)) throw new Error(`unknown type: ${line}`)
      const help = helps.get(name)
      current = [name, { type: rest, ...(help === undefined ? {} : { help }), samples: [] }]
      families.set(...current)
    } else {
      const sample = parseSample(line)
      const base = current?.[1].type === 'histogram' ? sample.name.replace(/_(bucket|sum|count)$/, '') : sample.name
      if (current === undefined || base !== current[0]) throw new Error(`a sample out of its family: ${line}`)
      current[1].samples.push(sample)
    }
  }
  for (const [name, family] of families) check(name, family)
  return families
}

function parseSample(line: string): Sample {
  const [, name = '', labels = '', value = ''] = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/.exec(line) ?? []
  if (name === '' || Number.isNaN(Number(value))) throw new Error(`not a sample: ${line}`)
  const found: Record<string, string> = {}
  let rest = labels
  while (rest !== '') {
    const [all = '', label = '', quoted = ''] = /^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\["\\n])*)"(?:,|$)/.exec(rest) ?? []
    if (label === '' || label in found) throw new Error(`not labels: ${line}`)
    found[label] = quoted.replaceAll(/\\(["\\n])/g, (_all, c: string) => (c === 'n' ? '\n' : c))
    rest = rest.slice(all.length)
  }
  return { name, labels: found, value: Number(value) }
}

function check(name: string, { type, samples }: Family): void {
  const keys = samples.map((sample) => JSON.stringify([sample.name, Object.entries(sample.labels).sort()]))
  if (new Set(keys).size !== keys.length) throw new Error(`${name}: a label set twice`)
  if (type !== 'histogram') return
  const sets = new Map<string, Sample[]>()
  for (const sample of samples) {
    const { le: _le, ...labels } = sample.labels
    const key = JSON.stringify(Object.entries(labels).sort())
    sets.set(key, [...(sets.get(key) ?? []), sample])
  }
  for (const set of sets.values()) {
    const buckets = set.filter((sample) => sample.name.endsWith('_bucket'))
    const bounds = buckets.map(({ labels }) => (labels.le === '+Inf' ? Number.POSITIVE_INFINITY : Number(labels.le)))
    if (bounds.some((bound, index) => !(bound > (bounds[index - 1] ?? Number.NEGATIVE_INFINITY))))
      throw new Error(`${name}: bounds out of order`)
    if (buckets.some(({ value }, index) => value < (buckets[index - 1]?.value ?? 0))) throw new Error(`${name}: buckets are not cumulative`)
    const count = set.find((sample) => sample.name === `${name}_count`)?.value
    if (bounds.at(-1) !== Number.POSITIVE_INFINITY || buckets.at(-1)?.value !== count) throw new Error(`${name}: +Inf is not the count`)
    if (!set.some((sample) => sample.name === `${name}_sum`)) throw new Error(`${name}: no sum`)
  }
}
