import { createWriteStream } from 'node:fs'
import { rename, rm } from 'node:fs/promises'
import { PassThrough, Readable, type Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { ReadableStream } from 'node:stream/web'
import { type CopyToStreamQuery, to as copyTo } from 'pg-copy-streams'
import { appendAudit } from '../../platform/audit.ts'
import type { Context } from '../../platform/context.ts'
import { identifier, type Session } from '../../platform/db.ts'
import { CaretakerError } from '../../platform/errors.ts'
import { emitEvent } from '../../platform/outbox.ts'
import { databaseRefusal } from '../database-refusal.ts'
import type { MapTable, SubjectMap } from '../map/subject-map.ts'
import { readSubjectMap, requirePolicy } from '../policy.ts'
import { identifyPerson, type Person, processorsOf, reach } from '../processors/index.ts'
import { after, byWhom, subjectTags } from '../requests/open-request.ts'
import { getRequest, isInstalled } from '../requests/request.ts'
import { keySets, rowsOf, subjectSetting } from '../rows/membership.ts'
import { listFiles, supabaseIfConfigured } from '../storage-files.ts'
import { findSubject, rootExists, type Subject } from '../subject.ts'
import { withSubjectLock } from '../subject-lock.ts'
import { type Archive, type ArchivedFile, openArchive } from './archive.ts'
import { jsonArray } from './json-lines.ts'
import { type PageTable, renderPage } from './page.ts'

export interface ExportInput {
  /** The person's id or e-mail address. */
  subject: string
  /** A path, or where the ZIP's bytes go. A file is only there when it is whole. */
  out: string | Writable
  /** The open request that this carries out; where none is named, the export is recorded as one of its own. */
  request?: string
  /** Encrypts the archive to it, as an age file that `age -d` opens. At least 12 characters. */
  passphrase?: string
  onProgress?: (message: string) => void
  /** Awaited between the last byte and the record that the export is done: whoever stores the stream confirms here. */
  beforeRecord?: () => Promise<void>
}

export interface Exported {
  /** Null where Caretaker is not installed, or without ENCRYPTION_KEY: then nothing was recorded, and `unrecorded` says why. */
  request: string | null
  unrecorded: string | null
  tables: { table: string; rows: number }[]
  rows: number
  files: number
  /** Of the archive. */
  bytes: number
  /** Of everything in it, unpacked. */
  contentBytes: number
  notIncluded: { what: string; why: string }[]
}

const pageRows = 100

/**
 * Everything that the map reaches from one person, of one moment, as a ZIP: JSON and CSV a table, files from Storage, a
 * manifest with SHA-256 sums, a page to read. Streamed, only reads, and needs nothing installed in the database.
 * @throws {CaretakerError} `subject_not_found`, `request_in_progress` while the person is being erased, `policy_invalid`
 */
export async function exportSubject(ctx: Context, input: ExportInput): Promise<Exported> {
  const map = await readSubjectMap(ctx)
  const subject = await findSubject(ctx.db, map, input.subject)
  if (subject === undefined) throw new CaretakerError('subject_not_found', 'There is no such person in the subject table.')
  const key = ctx.env.ENCRYPTION_KEY
  const installed = await isInstalled(ctx.db)
  const unrecorded = !installed ? "Caretaker's tables are not in this database." : key === undefined ? 'ENCRYPTION_KEY is not set.' : null
  const tags = key === undefined ? [] : subjectTags(key, subject)
  return withSubjectLock(ctx, { table: map.root, id: subject.id }, async () => {
    // Erased, or taken back, while this one waited for the lock.
    if (!(await rootExists(ctx.db, map, subject.id)))
      throw new CaretakerError('subject_not_found', 'There is no such person in the subject table.')
    if (input.request !== undefined) await requireOpen(ctx, input.request)
    const written = await toDestination(input.out, (out) =>
      encrypted(out, input.passphrase, (archive) => writeArchive(ctx, map, subject, archive, input.onProgress ?? (() => undefined))),
    ).catch((error: unknown) => {
      throw databaseRefusal(error, 'export')
    })
    await input.beforeRecord?.()
    const request = unrecorded === null ? await recordExport(ctx, input.request, tags[0] as string, written) : null
    return { request, unrecorded, ...written }
  })
}

type Written = Omit<Exported, 'request' | 'unrecorded'>

/** Puts age between the archive and where it goes. https://age-encryption.org/v1 */
async function encrypted(out: Writable, passphrase: string | undefined, write: (archive: Writable) => Promise<Written>): Promise<Written> {
  if (passphrase === undefined) return write(out)
  if (passphrase.length < 12)
    throw new CaretakerError('invalid_input', `passphrase: found ${passphrase.length} characters, expected at least 12.`)
  const { Encrypter } = await import('age-encryption')
  const encrypter = new Encrypter()
  encrypter.setPassphrase(passphrase)
  const plain = new PassThrough()
  const sealed = await encrypter.encrypt(Readable.toWeb(plain) as unknown as Parameters<typeof encrypter.encrypt>[0])
  const stored = pipeline(Readable.fromWeb(sealed as unknown as ReadableStream), out)
  stored.catch((error: Error) => plain.destroy(error))
  try {
    const written = await write(plain)
    await stored
    return written
  } catch (error) {
    plain.destroy(error as Error)
    await stored.catch(() => undefined)
    throw error
  }
}

/** A path gets the file when it is complete; until then it has another name, and after a failure none. */
async function toDestination(out: string | Writable, write: (out: Writable) => Promise<Written>): Promise<Written> {
  if (typeof out !== 'string') return write(out)
  const partial = `${out}.partial`
  try {
    const written = await write(createWriteStream(partial, { mode: 0o600 }))
    await rename(partial, out)
    return written
  } catch (error) {
    await rm(partial, { force: true })
    throw error
  }
}

async function writeArchive(
  ctx: Context,
  map: SubjectMap,
  subject: Subject,
  out: Writable,
  say: (message: string) => void,
): Promise<Written> {
  const created = ctx.clock.now()
  const archive = await openArchive(out, created)
  const files: ArchivedFile[] = []
  const tables: PageTable[] = []
  const exported = [...map.tables.values()].filter(({ exportColumns }) => exportColumns.length > 0)
  const name = fileNames()
  const asked = processorsOf(requirePolicy(ctx))
  let people: Record<string, Person> = {}
  await ctx.db.session(async (session) => {
    await session.execute('begin isolation level repeatable read read only')
    // The pooler's two minutes are too short for a person with a million rows; policies must not hide rows from their owner.
    await session.execute(
      `set local statement_timeout = 0; set local row_security = off; set local timezone = 'UTC'; set local datestyle = 'ISO'; set local intervalstyle = 'iso_8601'`,
    )
    people = await identifyPerson(session, map, subject, asked)
    await session.query(`select set_config('${subjectSetting}', $1, true)`, [subject.id])
    for (const [n, table] of exported.entries()) {
      say(`${table.key} (${n + 1}/${exported.length})`)
      const entry = await writeTable(session, archive, map, table, name(table.key))
      files.push(...entry.files)
      tables.push(entry.table)
    }
    await session.execute('commit')
  })
  const notIncluded = leftOut(ctx, map)
  const stored = await writeStoredFiles(ctx, archive, map, subject.id, say, notIncluded)
  files.push(...stored)
  const theirs = await writeProcessors(ctx, archive, people, say, notIncluded)
  files.push(...theirs)
  const app = ctx.config.app.name
  files.push(
    await archive.add(
      'index.html',
      renderPage({ app, created, tables, files: [...stored, ...theirs].map(({ path }) => path), notIncluded }),
    ),
  )
  const manifest = {
    format: 'caretaker.gdpr.export/1',
    app,
    created: created.toISOString(),
    tables: tables.map(({ table, rows, columns, json, csv }) => ({ table, rows, columns, json, csv })),
    files,
    notIncluded,
  }
  await archive.add('manifest.json', `${JSON.stringify(manifest, null, 2)}\n`)
  const bytes = await archive.close()
  return {
    bytes,
    contentBytes: files.reduce((sum, file) => sum + file.bytes, 0),
    tables: tables.map(({ table, rows }) => ({ table, rows })),
    rows: tables.reduce((sum, { rows }) => sum + rows, 0),
    files: stored.length,
    notIncluded,
  }
}

async function writeTable(
  session: Session,
  archive: Archive,
  map: SubjectMap,
  table: MapTable,
  name: string,
): Promise<{ table: PageTable; files: ArchivedFile[] }> {
  const columns = table.exportColumns
  const list = columns.map((column) => exported(table, column)).join(', ')
  const { prefix, source } = keySets(map, [table.key])
  const order = table.identity.length === 0 ? '' : ` order by ${table.identity.map((column) => `t.${identifier(column)}`).join(', ')}`
  const rows = `${prefix}${rowsOf(map, table, list, source)}${order}`
  const sample: string[] = []
  const lines = jsonArray({ lines: sample, limit: pageRows })
  const [json, csv] = [`data/${name}.json`, `data/${name}.csv`]
  // CSV with characters that JSON never contains for quote and delimiter: each line is the value itself, nothing escaped.
  const asJson = `copy (select row_to_json(mine) from (${rows}) as mine) to stdout (format csv, quote e'\\x01', delimiter e'\\x02', encoding 'UTF8')`
  const asCsv = `copy (${rows}) to stdout (format csv, header true, encoding 'UTF8')`
  const files = [await archive.add(json, copyStream(session, asJson), lines), await archive.add(csv, copyStream(session, asCsv))]
  return { table: { table: table.key, rows: lines.rows(), columns, sample, json, csv }, files }
}

/** A column as the person gets it: what is another person's is blank, and in text says so. */
function exported(table: MapTable, column: string): string {
  const own = `t.${identifier(column)}`
  const unless = table.redact[column]
  if (unless === undefined) return own
  const type = table.table.columns.find(({ name }) => name === column)?.type ?? 'text'
  const blank = /^(text|character varying|citext)/.test(type) ? `case when ${own} is null then null else '[redacted]' end` : 'null'
  if (unless === true) return `(${blank})::${type} as ${identifier(column)}`
  return `case when t.${identifier(unless)}::text = current_setting('${subjectSetting}') then ${own} else (${blank})::${type} end as ${identifier(column)}`
}

function copyStream(session: Session, sql: string): Readable {
  return session.client.query(copyTo(sql) as CopyToStreamQuery)
}

/** `schema.table` as a file's name on any system; two that become one get a number. */
function fileNames(): (key: string) => string {
  const used = new Set<string>()
  return (key) => {
    const safe = key.replace(/[^A-Za-z0-9_.-]/g, '_')
    let name = safe
    for (let n = 2; used.has(name.toLowerCase()); n++) name = `${safe}-${n}`
    used.add(name.toLowerCase())
    return name
  }
}

function leftOut(_ctx: Context, map: SubjectMap): { what: string; why: string }[] {
  const lines: { what: string; why: string }[] = []
  for (const { key, table, exportColumns, redact } of map.tables.values()) {
    if (exportColumns.length === 0) lines.push({ what: key, why: 'the policy does not export it' })
    const redacted = Object.keys(redact).filter((name) => exportColumns.includes(name))
    if (redacted.length > 0)
      lines.push({ what: `${key}: ${redacted.join(', ')}, where it is another person's`, why: 'the rights of others (Art. 15(4))' })
    const missing = table.columns.map(({ name }) => name).filter((name) => !exportColumns.includes(name))
    if (exportColumns.length > 0 && missing.length > 0)
      lines.push({
        what: `${key}: ${missing.join(', ')}`,
        why: table.schema === 'auth' ? 'credentials and internal fields of Supabase Auth' : 'the policy does not export these columns',
      })
  }
  return lines
}

/** The person's files, one after the other. One that is missing is named instead of failing the whole export. */
async function writeStoredFiles(
  ctx: Context,
  archive: Archive,
  map: SubjectMap,
  subjectId: string,
  say: (message: string) => void,
  notIncluded: { what: string; why: string }[],
): Promise<ArchivedFile[]> {
  const policy = requirePolicy(ctx)
  const supabase = await supabaseIfConfigured(ctx)
  if (supabase === undefined) {
    for (const { bucket } of policy.buckets ?? [])
      notIncluded.push({ what: `files in bucket ${bucket}`, why: 'Supabase is not configured' })
    return []
  }
  const written: ArchivedFile[] = []
  const found = await listFiles(ctx, supabase, map, policy, subjectId)
  for (const [n, { bucket, path }] of found.entries()) {
    say(`file ${n + 1}/${found.length}`)
    const { data, error } = await supabase.storage.from(bucket).download(path)
    if (error !== null) {
      notIncluded.push({ what: `${bucket}/${path}`, why: 'Supabase Storage did not return the file' })
      continue
    }
    written.push(await archive.add(`files/${archivePath(bucket)}/${archivePath(path)}`, Readable.fromWeb(data.stream() as ReadableStream)))
  }
  return written
}

/** What third parties hold, a file each. One that does not answer is named instead of failing the whole export. */
async function writeProcessors(
  ctx: Context,
  archive: Archive,
  people: Record<string, Person>,
  say: (message: string) => void,
  notIncluded: { what: string; why: string }[],
): Promise<ArchivedFile[]> {
  const written: ArchivedFile[] = []
  for (const named of processorsOf(requirePolicy(ctx))) {
    const processor = await reach(ctx, named)
    const person = people[named.name]
    if (typeof processor === 'string' || person === undefined) {
      notIncluded.push({ what: named.name, why: typeof processor === 'string' ? processor : 'nothing leads to the person there' })
      continue
    }
    say(named.name)
    const records = processor.export(ctx, person)[Symbol.asyncIterator]()
    // The first answer is awaited before the file is begun: a file in a ZIP cannot be taken back.
    const first = await records.next().catch((error: unknown) => error as Error)
    if (first instanceof Error) {
      notIncluded.push({ what: named.name, why: first instanceof CaretakerError ? first.detail : 'it did not answer as expected' })
      continue
    }
    if (first.done === true) continue
    let broken: unknown
    async function* lines(): AsyncGenerator<string> {
      yield `[${JSON.stringify((first as IteratorYieldResult<unknown>).value)}`
      try {
        for (let next = await records.next(); next.done !== true; next = await records.next()) yield `,\n${JSON.stringify(next.value)}`
      } catch (error) {
        broken = error
      }
      yield ']\n'
    }
    written.push(await archive.add(`processors/${named.name}.json`, Readable.from(lines())))
    if (broken !== undefined)
      notIncluded.push({
        what: `${named.name}: what comes after the records in its file`,
        why: broken instanceof CaretakerError ? broken.detail : 'it stopped answering',
      })
  }
  return written
}

/** No name in Storage may leave the folder that the archive is unpacked in. */
function archivePath(path: string): string {
  return path
    .split(/[/\\]/)
    .map((part) => (/^\.*$/.test(part) ? '_' : part.replaceAll(':', '_')))
    .join('/')
}

async function requireOpen(ctx: Context, id: string): Promise<void> {
  const { state } = await getRequest(ctx, id)
  if (state === 'done' || state === 'refused')
    throw new CaretakerError('conflict', 'The request has ended meanwhile; nothing was exported.')
}

/**
 * Ends the request, or records what an operator did by themselves. That is a request of its own: one that the person has open
 * is answered with a file that they can fetch.
 */
async function recordExport(ctx: Context, open: string | undefined, tag: string, written: Written): Promise<string> {
  return ctx.db.transaction(async (tx) => {
    const counts = {
      tables: written.tables.filter(({ rows }) => rows > 0).length,
      rows: written.rows,
      files: written.files,
      bytes: written.bytes,
    }
    const now = ctx.clock.now()
    const [recorded] =
      open === undefined
        ? await tx.query<{ id: string }>(
            `insert into caretaker.gdpr_requests (kind, state, subject_hash, requested_by, received_at, due_at, finished_at, verified_by, receipt)
             values ('export', 'done', $1, $2::jsonb, $3::timestamptz, $4::timestamptz, $3::timestamptz, 'operator', $5::jsonb) returning id`,
            [tag, JSON.stringify(byWhom(ctx)), now, after(now, '1 month'), JSON.stringify(counts)],
          )
        : await tx.query<{ id: string }>(
            `update caretaker.gdpr_requests set state = 'done', subject = null, reason = null, finished_at = $2::timestamptz, receipt = coalesce(receipt, '{}') || $3::jsonb
             where id = $1::uuid and state in ('verified', 'in_progress', 'waiting') returning id`,
            [open, now, JSON.stringify(counts)],
          )
    if (recorded === undefined) throw new CaretakerError('conflict', 'The request was ended by someone else while it was carried out.')
    const requestId = recorded.id
    await emitEvent(tx, 'gdpr.exported', { request: requestId })
    await appendAudit(
      tx,
      { actor: byWhom(ctx), clock: ctx.clock },
      { action: 'gdpr.exported', target: tag, detail: { request: requestId, ...counts } },
    )
    return requestId
  })
}
