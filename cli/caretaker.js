#!/usr/bin/env node
// `npx caretaker …` on a machine whose own Node is too old to run TypeScript: go on with the one npm installed.
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const [major, minor] = process.versions.node.split('.').map(Number)
if (major > 22 || (major === 22 && minor >= 18)) {
  // TypeScript is made JavaScript and compiled once, not at every start: a third of a second less for a backup (measured). Nowhere but
  // in the project, because what lies in there is run; where that cannot be written to, all is as without.
  const { enableCompileCache } = await import('node:module')
  enableCompileCache(fileURLToPath(new URL('../node_modules/.cache/compile', import.meta.url)))
  await import('./main.ts')
} else {
  const own = fileURLToPath(new URL('../node_modules/node/bin/node', import.meta.url))
  if (!existsSync(own)) {
    process.stderr.write(
      `caretaker: Node ${process.versions.node} is too old; run \`npm install\` in the project, which brings a newer one.\n`,
    )
    process.exit(1)
  }
  const child = spawn(own, [fileURLToPath(new URL('main.ts', import.meta.url)), ...process.argv.slice(2)], { stdio: 'inherit' })
  // The command ends in its own time. A terminal's Ctrl-C reaches it twice then, which it takes for one.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal))
  child.on('exit', (code, signal) => {
    if (signal === null) process.exit(code ?? 1)
    process.removeAllListeners(signal)
    process.kill(process.pid, signal)
  })
}
