#!/usr/bin/env node
// `npx caretaker …` on a machine whose own Node is too old to run TypeScript: go on with the one npm installed.
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const main = fileURLToPath(new URL('main.ts', import.meta.url))
const own = fileURLToPath(new URL('../node_modules/.bin/node', import.meta.url))
const [major, minor] = process.versions.node.split('.').map(Number)
const able = major > 22 || (major === 22 && minor >= 18)
const node = able || !existsSync(own) ? process.execPath : own
const { status, signal } = spawnSync(node, [main, ...process.argv.slice(2)], { stdio: 'inherit' })
process.exitCode = signal === null ? (status ?? 1) : 1
