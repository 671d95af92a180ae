import { describe, expect, it } from 'vitest'
import { unreadable, writtenText, writtenTitle } from '../../lib/platform/written-text.ts'

describe('what a person writes', () => {
  it.each([
    ['plain words', 'Uploads fail'],
    ['lines and tabs', 'first\n\tsecond'],
    ['any script, with the marks that it needs', 'שלום \u200fעולם\u200e, 店, ثلاثة'],
    ['characters that are joined', '👩\u200d🚒'],
  ])('may be %s', (_what, text) => {
    expect(writtenText('note', text)).toBe(text)
  })

  it.each([
    ['a bell', 'a\u0007b', 'found control characters, expected text'],
    ['what steers a terminal', 'a\u001b[2Jb', 'found control characters'],
    ['what steers a terminal, of the second kind', 'a\u009b2Jb', 'found control characters'],
    ['what PostgreSQL does not take', 'a\0b', 'found control characters'],
    ['an override of the direction', 'invoice\u202efdp.exe', 'found characters that turn the direction of what follows'],
    ['an isolate that is left open', 'a\u2067b', 'found characters that turn the direction of what follows'],
    ['half a character', 'a\ud83d', 'found half a character'],
    ['nothing', ' \n ', 'found nothing, expected some text'],
    ['too much', 'x'.repeat(5_001), 'found 5001 characters, expected at most 5000'],
  ])('may not hold %s', (_what, text, problem) => {
    expect(() => writtenText('note', text)).toThrow(
      expect.objectContaining({ code: 'invalid_input', detail: expect.stringContaining(`note: ${problem}`) }),
    )
  })

  it('is one line where it is a title', () => {
    expect(writtenTitle('title', '  Uploads\r\n fail\u2028again ')).toBe('Uploads fail again')
    expect(() => writtenTitle('title', 'x'.repeat(201))).toThrow('found 201 characters, expected at most 200')
  })

  it('is named by what is wrong with it', () => {
    expect([unreadable('fine'), unreadable('\u0000'), unreadable('\u202a')]).toEqual([
      undefined,
      'control characters',
      'characters that turn the direction of what follows',
    ])
  })
})
