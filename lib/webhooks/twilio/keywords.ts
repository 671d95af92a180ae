import type { TwilioLanguage, TwilioReplies } from '../../config/index.ts'

export type Keyword = 'stop' | 'start' | 'help'

/** https://help.twilio.com/articles/223134027: what Twilio and the carriers take for an opt-out, whatever the policy adds. */
const english: Record<Keyword, readonly string[]> = {
  stop: ['STOP', 'STOPALL', 'UNSUBSCRIBE', 'CANCEL', 'END', 'QUIT', 'REVOKE', 'OPTOUT'],
  start: ['START', 'UNSTOP', 'YES'],
  help: ['HELP', 'INFO'],
}

export interface Recognised {
  keyword: Keyword
  /** An answer to anything else, too: it opts in again whoever had opted out, and says nothing otherwise. */
  ambiguous: boolean
  /** The replies of the language the word is of, where the policy has any for it. */
  replies: TwilioReplies | undefined
}

interface KeywordPolicy {
  replies?: TwilioReplies | undefined
  languages?: readonly TwilioLanguage[] | undefined
}

/**
 * The keyword that a message is, or null. A keyword is the whole message: "please do not stop" is none. Case, accents,
 * punctuation and spaces do not matter. Where a word is two things in two languages, stopping wins.
 */
export function recognise(text: string, policy: KeywordPolicy | undefined): Recognised | null {
  const word = plain(text)
  if (word === '') return null
  for (const keyword of ['stop', 'start', 'help'] as const) {
    for (const language of policy?.languages ?? [])
      if (language[keyword]?.some((known) => plain(known) === word) === true)
        return { keyword, ambiguous: false, replies: language.replies ?? policy?.replies }
    if (english[keyword].includes(word)) return { keyword, ambiguous: word === 'YES', replies: policy?.replies }
  }
  return null
}

function plain(text: string): string {
  return text
    .normalize('NFKD')
    .replace(/\p{M}/gu, '')
    .replace(/[^\p{L}\p{N}]+/gu, '')
    .toUpperCase()
}
