/**
 * The strongly connected components of a directed graph, each after every component that it has an edge to
 * (so: with edges from child to parent, parents come first). Tarjan's algorithm, without recursion because a schema
 * may chain thousands of tables.
 */
export function components(nodes: readonly string[], edges: ReadonlyMap<string, ReadonlySet<string>>): string[][] {
  const index = new Map<string, number>()
  const low = new Map<string, number>()
  const onStack = new Set<string>()
  const stack: string[] = []
  const found: string[][] = []
  let counter = 0

  for (const root of nodes) {
    if (index.has(root)) continue
    const work: { node: string; targets: string[] }[] = []
    const enter = (node: string) => {
      index.set(node, counter)
      low.set(node, counter)
      counter++
      stack.push(node)
      onStack.add(node)
      work.push({ node, targets: [...(edges.get(node) ?? [])] })
    }
    const lower = (node: string, value: number | undefined) => {
      if (value !== undefined && value < (low.get(node) ?? 0)) low.set(node, value)
    }
    enter(root)
    for (let frame = work.at(-1); frame !== undefined; frame = work.at(-1)) {
      const target = frame.targets.pop()
      if (target !== undefined) {
        if (!index.has(target)) enter(target)
        else if (onStack.has(target)) lower(frame.node, index.get(target))
        continue
      }
      work.pop()
      const above = work.at(-1)
      if (above !== undefined) lower(above.node, low.get(frame.node))
      if (low.get(frame.node) !== index.get(frame.node)) continue
      const component: string[] = []
      for (let node = stack.pop(); node !== undefined; node = stack.pop()) {
        onStack.delete(node)
        component.push(node)
        if (node === frame.node) break
      }
      found.push(component.sort())
    }
  }
  return found
}
