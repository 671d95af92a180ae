/**
 * A copy of `content` with the fields at `paths` as null: `customer_email`, `data.object.lines.*.description` (any key or
 * element), `**.email` (at any depth). What is not there stays away.
 */
export function minimise(content: object, paths: readonly string[]): object {
  const copy = structuredClone(content)
  for (const path of paths) {
    const [first = '', ...rest] = path.split('.')
    if (first === '**') everywhere(copy, rest)
    else blank(copy, [first, ...rest])
  }
  return copy
}

function everywhere(value: unknown, path: readonly string[]): void {
  if (typeof value !== 'object' || value === null) return
  blank(value, path)
  for (const inner of Object.values(value)) everywhere(inner, path)
}

function blank(value: unknown, [key, ...rest]: readonly string[]): void {
  if (typeof value !== 'object' || value === null || key === undefined) return
  const container = value as Record<string, unknown>
  for (const name of key === '*' ? Object.keys(container) : Object.hasOwn(container, key) ? [key] : []) {
    if (rest.length > 0) blank(container[name], rest)
    else container[name] = null
  }
}
