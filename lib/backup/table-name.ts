/**
 * `schema.table`, as people write it. A part that holds a dot or a quote itself is quoted: no two tables have the same name here, and
 * what is noted of one is not taken for the other.
 */
export function nameOf(table: { schema: string; name: string }): string {
  return `${part(table.schema)}.${part(table.name)}`
}

function part(name: string): string {
  return /[."]/.test(name) ? `"${name.replaceAll('"', '""')}"` : name
}
