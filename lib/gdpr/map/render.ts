import { type MapTable, overwrittenColumns, type SubjectMap } from './subject-map.ts'

/** The map as a tree: each table under the one that it hangs from by its shortest path, other ways in named behind it. */
export function renderTree(map: SubjectMap): string {
  const children = new Map<string, MapTable[]>()
  for (const table of map.tables.values()) {
    if (table.key === map.root) continue
    const parent = nearestParent(map, table)
    children.set(parent, [...(children.get(parent) ?? []), table])
  }
  const lines = [`${map.root}  ${describe(map.tables.get(map.root) as MapTable)}`]
  const walk = (key: string, indent: string) => {
    const below = children.get(key) ?? []
    for (const [n, table] of below.entries()) {
      const last = n === below.length - 1
      const edges = table.edges.map(
        (edge) => `${edge.columns.join(', ')}${edge.kind === 'link' ? ' (link)' : ''}${edge.parent === key ? '' : ` → ${edge.parent}`}`,
      )
      lines.push(`${indent}${last ? '└─' : '├─'} ${table.key}  by ${edges.join('; ')}  ${describe(table)}`)
      walk(table.key, `${indent}${last ? '   ' : '│  '}`)
    }
  }
  walk(map.root, '')
  for (const cut of map.cuts)
    if (cut.from === 'others')
      lines.push(
        `${cut.foreignKey.table}(${cut.foreignKey.columns.join(', ')}) → ${cut.foreignKey.references}: rows of others stay${cut.columns.length > 0 ? ', the reference is emptied' : '; a mandatory reference, in the way if there is one'}`,
      )
  return lines.join('\n')
}

function nearestParent(map: SubjectMap, table: MapTable): string {
  // The second last stop of the shortest path; its table is what the last step's edge points at.
  const [path] = table.paths
  const above = path === undefined || path.length < 2 ? map.root : (path.at(-2) as string).replace(/\(.*$/, '')
  return table.edges.some(({ parent }) => parent === above)
    ? above
    : (table.edges.find(({ parent }) => parent !== table.key)?.parent ?? map.root)
}

function describe({ erase, exportColumns, classified }: MapTable): string {
  const exported = exportColumns.length === 0 ? 'not exported' : 'export'
  const set = overwrittenColumns(erase)
  const emptied = set.length === 0 ? '' : `, ${set.join(', ')} overwritten`
  const action =
    erase.kind === 'keep'
      ? `keep ${erase.until} (${erase.basis})${emptied}`
      : erase.kind === 'anonymise'
        ? `anonymise${emptied}`
        : erase.kind === 'storage'
          ? 'by the Storage API'
          : 'delete'
  return `[${exported}; ${action}${classified ? '' : ' (default)'}]`
}

/** The map as a Mermaid flow chart, arrows from the referenced table to the referencing one. */
export function renderMermaid(map: SubjectMap): string {
  const ids = new Map([...map.tables.keys()].map((key, n) => [key, `t${n}`]))
  const quote = (text: string) => text.replaceAll('"', '#quot;')
  const lines = ['flowchart LR']
  for (const table of map.tables.values()) lines.push(`  ${ids.get(table.key)}["${quote(table.key)}<br>${quote(table.erase.kind)}"]`)
  for (const table of map.tables.values())
    for (const edge of table.edges)
      lines.push(
        `  ${ids.get(edge.parent)} ${edge.kind === 'link' ? '-.->' : '-->'}|"${quote(edge.columns.join(', '))}"| ${ids.get(table.key)}`,
      )
  return lines.join('\n')
}

/** The map as JSON. */
export function describeMap(map: SubjectMap): Record<string, unknown> {
  return {
    root: map.root,
    subject: { table: map.subject, id: map.idColumn.name, email: map.emailColumn ?? null },
    tables: [...map.tables.values()].map(({ key, paths, edges, exportColumns, erase, classified }) => ({
      table: key,
      paths,
      by: edges.map(({ kind, name, parent, columns }) => ({ kind, name, parent, columns })),
      export: exportColumns,
      erase,
      classified,
    })),
    deletion: map.deletions,
    emptied: map.cuts.map(({ foreignKey, columns, from }) => ({
      table: foreignKey.table,
      constraint: foreignKey.name,
      references: foreignKey.references,
      columns,
      from,
    })),
  }
}
