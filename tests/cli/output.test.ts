import { expect, it } from 'vitest'
import { createOutput, table } from '../../cli/output.ts'

it('lets no text of others steer the terminal, or break a row in two', () => {
  const written: string[] = []
  const stream = { isTTY: false, write: (text: string) => written.push(text) > 0 } as unknown as NodeJS.WriteStream
  const out = createOutput({ json: false, stdout: stream, stderr: stream })
  out.result(null, table(['type', 'state'], [['a\u001b[2Jb\u009bK\u202e\nc', 'dead']]))
  out.line('one\ttwo\u0007')
  expect(written.join('')).toBe(`type         state\n${'─'.repeat(11)}  ─────\na\ufffd[2Jb\ufffdK\ufffd c  dead\none\ttwo\ufffd\n`)
})
