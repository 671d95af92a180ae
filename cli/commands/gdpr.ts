import { access, readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { createInterface } from 'node:readline/promises'
import { personElsewhere } from '../../lib/catalog.ts'
import {
  approveRequest,
  describeMap,
  type EraseOutcome,
  eraseSubject,
  exportSubject,
  extendRequest,
  lintDatabase,
  listRequests,
  type PlanOutcome,
  planSubjectErasure,
  readConsents,
  readSubjectMap,
  rectifySubject,
  refuseRequest,
  registerOf,
  renderMermaid,
  renderRegister,
  renderTree,
  type SignedReceipt,
  verifyReceipt,
} from '../../lib/gdpr/index.ts'
import { requireEnv } from '../../lib/platform/env.ts'
import { CaretakerError } from '../../lib/platform/errors.ts'
import type { Command, Invocation } from '../command.ts'
import { table } from '../output.ts'

const map: Command = {
  name: 'gdpr map',
  usage: '[--format tree|mermaid]',
  summary: "Where a person's data is, and what happens to it",
  options: { format: { type: 'string', value: 'FORMAT', about: 'tree (as text) or mermaid (a diagram)' } },
  async run({ args, flags, context, out }) {
    noMore('gdpr map', args, 0)
    const format = flags.format ?? 'tree'
    if (format !== 'tree' && format !== 'mermaid')
      throw new CaretakerError('bad_request', `--format: found "${String(format)}", expected tree or mermaid.`)
    const found = await readSubjectMap(await context())
    out.result(describeMap(found), format === 'mermaid' ? renderMermaid(found) : renderTree(found))
  },
}

const lint: Command = {
  name: 'gdpr lint',
  summary: 'Fails on tables that the policy does not describe and on personal columns that nothing leads to',
  async run({ args, context, out }) {
    noMore('gdpr lint', args, 0)
    const ctx = await context()
    const { findings, fingerprint } = await lintDatabase(ctx)
    out.result(
      { findings, fingerprint },
      findings.length === 0
        ? `Every table that a person reaches is described. The schema's fingerprint: ${fingerprint}.`
        : findings.map(({ rule, message }) => `${rule}: ${message}`).join('\n'),
    )
    if (findings.length > 0) process.exitCode = 1
  },
}

const exportCommand: Command = {
  name: 'gdpr export',
  usage: 'SUBJECT [--out FILE] [--force] [--passphrase-file FILE]',
  summary: 'Everything about one person (id or e-mail address) as a ZIP',
  options: {
    out: { type: 'string', value: 'FILE', about: 'where to; gdpr-export.zip unless given' },
    force: { type: 'boolean', about: 'overwrite the file' },
    'passphrase-file': { type: 'string', value: 'FILE', about: 'encrypt to the passphrase on its first line; `age -d` opens it' },
  },
  async run({ args, flags, context, out }) {
    const subject = oneSubject('gdpr export', args)
    // The default name does not hold the person's id: file names end up in logs and backups.
    const passphrase = await passphraseFrom(flags['passphrase-file'])
    const file = resolve(typeof flags.out === 'string' ? flags.out : `gdpr-export.zip${passphrase === undefined ? '' : '.age'}`)
    if (flags.force !== true && (await exists(file)))
      throw new CaretakerError('bad_request', `${file} is there already. Name another file with --out, or overwrite it with --force.`)
    const exported = await exportSubject(await context(), {
      subject,
      out: file,
      ...(passphrase === undefined ? {} : { passphrase }),
      onProgress: (message) => out.progress(`Exporting ${message}`),
    })
    const lines = exported.tables.filter(({ rows }) => rows > 0).map(({ table: name, rows }) => [name, rows])
    const notes = [
      ...exported.notIncluded.map(({ what, why }) => `Not included: ${what} (${why}).`),
      exported.unrecorded === null ? `Recorded as request ${exported.request}.` : `Not recorded: ${exported.unrecorded}`,
    ]
    out.result(
      { file, ...exported },
      `${table(['table', 'rows'], lines)}\n\n${exported.rows} rows and ${exported.files} files in ${file} (${exported.bytes} bytes).\n${notes.join('\n')}`,
    )
  },
}

const erase: Command = {
  name: 'gdpr erase',
  usage: 'SUBJECT [--dry-run] [--yes]',
  summary: 'Erase one person (id or e-mail address): rows, files, Auth user; prints the signed receipt',
  options: {
    'dry-run': { type: 'boolean', about: 'say what would go and what stays, and change nothing' },
    yes: { type: 'boolean', about: 'do it without asking back' },
  },
  async run(invocation) {
    const { args, flags, context, out } = invocation
    const subject = oneSubject('gdpr erase', args)
    if (flags['dry-run'] === true) {
      const plan = await planSubjectErasure(await context(), { subject })
      out.result({ dryRun: true, ...plan }, describePlan(plan))
      return
    }
    if (flags.yes !== true) await confirm(invocation, subject)
    const outcome = await eraseSubject(await context(), {
      subject,
      elsewhere: personElsewhere,
      onProgress: (message) => out.progress(`Erasing ${message}`),
    })
    out.result(outcome, describeOutcome(outcome))
  },
}

const requests: Command = {
  name: 'gdpr requests',
  summary: 'The requests of data subjects, and when each is due',
  async run({ args, context, out }) {
    noMore('gdpr requests', args, 0)
    const all = await listRequests(await context())
    out.result(
      all.map(({ receipt: _receipt, ...request }) => request),
      all.length === 0
        ? 'Nobody has asked for anything.'
        : table(
            ['request', 'kind', 'state', 'received', 'due', 'finished', 'reason'],
            all.map((one) => [one.id, one.kind, one.state, day(one.receivedAt), day(one.dueAt), day(one.finishedAt), one.reason]),
          ),
    )
  },
}

const approve: Command = {
  name: 'gdpr approve',
  usage: 'REQUEST',
  summary: 'Let a request be carried out that waits for a review',
  async run({ args, context, out }) {
    const approved = await approveRequest(await context(), oneRequest('gdpr approve', args))
    out.result(approved, `Approved. It is carried out ${approved.notBefore === null ? 'next' : `after ${day(approved.notBefore)}`}.`)
  },
}

const refuse: Command = {
  name: 'gdpr refuse',
  usage: 'REQUEST --reason TEXT',
  summary: 'End a request without carrying it out; the person must be told why (Art. 12(4))',
  options: { reason: { type: 'string', value: 'TEXT', about: 'what the person is told; nothing about anybody' } },
  async run({ args, flags, context, out }) {
    const id = oneRequest('gdpr refuse', args)
    const refused = await refuseRequest(await context(), id, reasonOf('gdpr refuse', flags.reason))
    out.result(refused, 'Refused. Tell the person why, and that they may complain to a supervisory authority.')
  },
}

const extend: Command = {
  name: 'gdpr extend',
  usage: 'REQUEST --reason TEXT',
  summary: 'Two months more, once, for a complex request; the person must be told within the first month (Art. 12(3))',
  options: { reason: { type: 'string', value: 'TEXT', about: 'what the person is told; nothing about anybody' } },
  async run({ args, flags, context, out }) {
    const id = oneRequest('gdpr extend', args)
    const extended = await extendRequest(await context(), id, reasonOf('gdpr extend', flags.reason))
    out.result(extended, `Due on ${day(extended.dueAt)} now. Tell the person, with the reason, within a month of their request.`)
  },
}

const rectify: Command = {
  name: 'gdpr rectify',
  usage: 'SUBJECT --set TABLE.COLUMN=VALUE… [--row KEY]',
  summary: "Correct one person's data, in the columns that gdpr.tables.*.rectify names",
  options: {
    set: { type: 'string', multiple: true, value: 'TABLE.COLUMN=VALUE', about: 'what is right; repeatable' },
    row: { type: 'string', value: 'KEY', about: 'which row, where the person has several in the table' },
  },
  async run({ args, flags, context, out }) {
    const subject = oneSubject('gdpr rectify', args)
    const given = Array.isArray(flags.set) ? flags.set : []
    if (given.length === 0) throw new CaretakerError('bad_request', '`caretaker gdpr rectify` needs --set TABLE.COLUMN=VALUE.')
    const corrections = given.map((text) => {
      const at = text.indexOf('=')
      if (at < 1) throw new CaretakerError('bad_request', '--set: found something without "=", expected TABLE.COLUMN=VALUE.')
      return { column: text.slice(0, at), value: text.slice(at + 1), ...(typeof flags.row === 'string' ? { row: flags.row } : {}) }
    })
    const done = await rectifySubject(await context(), { subject, corrections })
    const tell = done.recipients.length === 0 ? '' : `\nTell those who hold it too (Art. 19): ${done.recipients.join(', ')}.`
    out.result(done, `Corrected: ${done.changed.map(({ column }) => column).join(', ')}. Recorded as request ${done.request.id}.${tell}`)
  },
}

const consent: Command = {
  name: 'gdpr consent',
  usage: 'SUBJECT',
  summary: 'What one person agrees to now, by purpose',
  async run({ args, context, out }) {
    const consents = await readConsents(await context(), { subject: oneSubject('gdpr consent', args) })
    out.result(
      consents,
      consents.length === 0
        ? 'The policy names no purposes: gdpr.consent.'
        : table(
            ['purpose', 'agrees', 'version', 'since', ''],
            consents.map((one) => [
              one.purpose,
              one.given === null ? 'never asked' : one.given ? 'yes' : 'no',
              one.version,
              day(one.at),
              one.outdated ? 'the text has changed: ask again' : null,
            ]),
          ),
    )
  },
}

const receipt: Command = {
  name: 'gdpr receipt',
  usage: 'FILE',
  summary: 'Whether the receipt of an erasure (its JSON) is as it was signed with this ENCRYPTION_KEY',
  async run({ args, context, out }) {
    const [file] = args
    if (file === undefined || args.length > 1)
      throw new CaretakerError('bad_request', '`caretaker gdpr receipt` needs FILE: the JSON that an erasure printed.')
    const ctx = await context()
    const key = requireEnv(ctx.env, 'ENCRYPTION_KEY', 'Verifying a receipt')
    const text = await readFile(file, 'utf8').catch(() => {
      throw new CaretakerError('bad_request', `${file} cannot be read.`)
    })
    const signed = parseReceipt(text, file)
    const valid = verifyReceipt(key, signed)
    out.result(
      { valid, request: signed.request, completedAt: signed.completedAt },
      valid
        ? `The receipt is as it was signed: request ${signed.request ?? 'not recorded'}, completed ${signed.completedAt}.`
        : 'THE RECEIPT IS NOT AS IT WAS SIGNED: it was changed, or signed with another ENCRYPTION_KEY.',
    )
    if (!valid) process.exitCode = 1
  },
}

/** The receipt itself, or what `gdpr erase --json` printed around it. */
function parseReceipt(text: string, file: string): SignedReceipt {
  const wrong = new CaretakerError('bad_request', `${file} holds no receipt; expected the JSON that an erasure printed.`)
  let value: { receipt?: unknown; format?: unknown; signature?: { value?: unknown; keyId?: unknown } } | null
  try {
    value = JSON.parse(text) as typeof value
  } catch {
    throw wrong
  }
  const found = (value?.receipt ?? value) as typeof value
  if (
    found?.format !== 'caretaker.gdpr.receipt/1' ||
    typeof found.signature?.value !== 'string' ||
    typeof found.signature.keyId !== 'string'
  )
    throw wrong
  return found as unknown as SignedReceipt
}

const register: Command = {
  name: 'gdpr register',
  summary: 'The register of processing activities (Art. 30), as Markdown, from the policy and the database',
  async run({ args, context, out }) {
    noMore('gdpr register', args, 0)
    const found = await registerOf(await context())
    out.result(found, renderRegister(found))
  },
}

export const commands: Command[] = [map, lint, exportCommand, erase, rectify, consent, requests, approve, refuse, extend, receipt, register]

/** From a file: an argument would be seen by everybody who lists processes. */
async function passphraseFrom(file: unknown): Promise<string | undefined> {
  if (typeof file !== 'string') return undefined
  const text = await readFile(file, 'utf8').catch(() => {
    throw new CaretakerError('bad_request', `--passphrase-file: ${file} cannot be read.`)
  })
  const passphrase = text.split(/\r?\n/)[0] ?? ''
  if (passphrase.length < 12)
    throw new CaretakerError('bad_request', `--passphrase-file: the first line has ${passphrase.length} characters, expected at least 12.`)
  return passphrase
}

function oneRequest(command: string, args: readonly string[]): string {
  const [id] = args
  if (id === undefined)
    throw new CaretakerError('bad_request', `\`caretaker ${command}\` needs REQUEST: an id that \`caretaker gdpr requests\` lists.`)
  if (args.length > 1) throw new CaretakerError('bad_request', `\`caretaker ${command}\` takes one request, found ${args.length}.`)
  return id
}

function reasonOf(command: string, reason: unknown): string {
  if (typeof reason === 'string') return reason
  throw new CaretakerError('bad_request', `\`caretaker ${command}\` needs --reason TEXT: what the person is told.`)
}

function oneSubject(command: string, args: readonly string[]): string {
  const [subject] = args
  if (subject === undefined || subject === '')
    throw new CaretakerError('bad_request', `\`caretaker ${command}\` needs SUBJECT: the person's id or e-mail address.`)
  noMore(command, args, 1)
  return subject
}

function noMore(command: string, args: readonly string[], limit: number): void {
  if (args.length > limit)
    throw new CaretakerError(
      'bad_request',
      `\`caretaker ${command}\` takes ${limit === 0 ? 'no arguments' : 'one person'}, found ${args.length}.`,
    )
}

/** Erasing cannot be taken back: a person at a terminal types whom they mean, a script says --yes. */
async function confirm({ out }: Invocation, subject: string): Promise<void> {
  if (!process.stdin.isTTY || out.json)
    throw new CaretakerError('bad_request', 'Erasing a person cannot be undone. Look at it with --dry-run, then pass --yes.')
  const prompt = createInterface({ input: process.stdin, output: process.stderr })
  try {
    const gone = new Promise<never>((_, reject) => {
      const stopped = () => reject(new CaretakerError('bad_request', 'Not confirmed. Nothing was changed.'))
      prompt.once('close', stopped).once('SIGINT', stopped)
    })
    gone.catch(() => undefined)
    const answer = prompt.question("This cannot be undone. Type the person's id or e-mail address again to erase them: ")
    const typed = await Promise.race([answer, gone])
    if (typed.trim() !== subject) throw new CaretakerError('bad_request', 'That is somebody else. Nothing was changed.')
  } finally {
    prompt.close()
  }
}

function describePlan(plan: PlanOutcome): string {
  if (plan.status === 'already-erased') return `This person was erased already, on ${day(plan.erasedAt)}${byRequest(plan.request)}.`
  const rows = plan.tables.filter(({ rows: n }) => n > 0)
  const parts = [
    table(
      ['table', 'rows', 'what happens'],
      rows.map((one) => [
        one.table,
        one.rows,
        one.action === 'keep'
          ? `kept for ${one.until}: ${one.basis}`
          : one.action === 'storage'
            ? 'deleted by the Storage API'
            : one.action,
      ]),
    ),
  ]
  if (plan.cuts.length > 0)
    parts.push(
      plan.cuts
        .map(
          (cut) =>
            `${cut.rows} ${cut.rows === 1 ? 'row' : 'rows'} of ${cut.table} ${cut.rows === 1 ? 'stays and loses its' : 'stay and lose their'} reference to ${cut.references} (${cut.columns.join(', ')}).`,
        )
        .join('\n'),
    )
  parts.push(plan.files === null ? 'Files: Supabase is not configured, none are looked for.' : `Files in Storage: ${plan.files}.`)
  for (const { name, byHand } of plan.processors)
    parts.push(byHand === null ? `${name} is told to erase the person.` : `${name} must be asked by hand: ${byHand}.`)
  if (plan.authUser) parts.push('The Auth user is deleted through Supabase Auth.')
  if (plan.warnings.length > 0) parts.push(plan.warnings.map((line) => `Warning: ${line}`).join('\n'))
  parts.push(
    plan.blockers.length > 0
      ? `It cannot be done as the policy stands:\n${plan.blockers.map((line) => `  ${line}`).join('\n')}`
      : 'Nothing was changed.',
  )
  return parts.join('\n\n')
}

function describeOutcome(outcome: EraseOutcome): string {
  if (outcome.status === 'already-erased')
    return `This person was erased already, on ${day(outcome.erasedAt)}${byRequest(outcome.request)}. Nothing was changed.`
  return `Erased. The receipt, which holds no personal data:\n${JSON.stringify(outcome.receipt, null, 2)}`
}

function byRequest(id: string | null): string {
  return id === null ? '' : ` (request ${id})`
}

function day(date: Date | null): string | null {
  return date === null ? null : date.toISOString().slice(0, 10)
}

async function exists(file: string): Promise<boolean> {
  return access(file).then(
    () => true,
    () => false,
  )
}
