import { Writable } from 'node:stream'
import { describe, expect, it } from 'vitest'
import { CaretakerError } from '../../lib/platform/errors.ts'
import { createLog, describeError, type Log, subjectTag } from '../../lib/platform/log.ts'
import { useTestDatabase } from '../support/database.ts'
import fc from '../support/fast-check.ts'

function capture(level = 'debug'): { log: Log; lines: () => Record<string, unknown>[]; text: () => string } {
  let text = ''
  const destination = new Writable({
    write(chunk: Buffer, _encoding, done) {
      text += chunk.toString()
      done()
    },
  })
  const lines = () =>
    text
      .trimEnd()
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as Record<string, unknown>)
  return { log: createLog({ level, destination }), lines, text: () => text }
}

const secretFields = [
  'authorization',
  'cookie',
  'password',
  'secret',
  'token',
  'apikey',
  'api_key',
  'apiKey',
  'identity',
  'email',
  'phone',
  'url',
  'databaseUrl',
  'sessionUrl',
  'connectionString',
  'payload',
  'body',
  'stripe-signature',
]

describe('createLog', () => {
  it('writes JSON lines with a time and a level in words', () => {
    const { log, lines } = capture('info')
    log.debug('not written')
    log.child({ requestId: 'r-1', job: 'backup' }).warn({ rows: 3 }, 'done')
    expect(lines()).toEqual([
      { level: 'warn', time: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/), requestId: 'r-1', job: 'backup', rows: 3, msg: 'done' },
    ])
  })

  it('lets no secret field through at any of three depths, nor in bound context', () => {
    const depths = [(inner: object) => inner, (inner: object) => ({ request: inner }), (inner: object) => ({ request: { headers: inner } })]
    const value = fc.oneof(fc.string({ minLength: 1 }), fc.object(), fc.array(fc.string()))
    fc.assert(
      fc.property(fc.constantFrom(...secretFields), fc.constantFrom(...depths), value, fc.boolean(), (field, nest, secret, bound) => {
        const { log, lines } = capture()
        const entry = nest({ [field]: { marked: '§secret§', secret }, rows: 7 })
        if (bound) log.child(entry).info('x')
        else log.info(entry, 'x')
        expect(lines()).toHaveLength(1)
        expect(lines()[0]).toMatchObject(nest({ [field]: '[redacted]', rows: 7 }))
        expect(JSON.stringify(lines())).not.toContain('§secret§')
      }),
      { numRuns: 300 },
    )
  })

  it('describes errors under err and error', () => {
    const { log, lines } = capture()
    log.error({ err: new CaretakerError('timeout', 'The deadline passed.') }, 'a')
    log.error({ error: Object.assign(new Error('b'), { body: '§secret§', response: { data: '§secret§' } }) }, 'b')
    log.error(Object.assign(new Error('c'), { body: '§secret§' }))
    expect(lines()).toMatchObject([
      { err: { type: 'CaretakerError', code: 'timeout', message: 'timeout: The deadline passed.', stack: expect.any(String) } },
      { error: { type: 'Error', message: 'b' } },
      { err: { type: 'Error', message: 'c' } },
    ])
    expect(JSON.stringify(lines())).not.toContain('§secret§')
  })
})

describe('describeError', () => {
  const test = useTestDatabase()

  it('keeps the values of rows out, whatever they look like', async () => {
    await test.db.execute(`create type mood as enum ('ok');
      create table held (id int primary key, t text unique, n int, m mood, j jsonb, d timestamptz, v varchar(3), u uuid, a int[], c int check (c > 0), constraint pair unique (t, n))`)
    await test.db.execute(`create function complain(v text) returns void language plpgsql as $$ begin raise exception 'about %', v; end $$`)
    await test.db.execute(
      `create function complain_as(v text, s text) returns void language plpgsql as $$ begin raise exception using message = v, errcode = s; end $$`,
    )
    const statements = [
      'insert into held (id, n) values (1, $1::text::int)',
      'insert into held (id, m) values (1, $1::text::mood)',
      'insert into held (id, j) values (1, $1::text::jsonb)',
      'insert into held (id, d) values (1, $1::text::timestamptz)',
      'insert into held (id, u) values (1, $1::text::uuid)',
      'insert into held (id, a) values (1, $1::text::int[])',
      'insert into held (id, v) values (1, $1)',
      'insert into held (id, t, c) values (1, $1, -1)',
      'insert into held (id, t) values (1, $1), (2, $1)',
      'insert into held (id, t, n) values (null, $1, 1)',
      'select complain($1)',
      `select complain_as($1, '42501')`,
      `select make_interval(secs => $1::text::float8)`,
    ]
    // Quotes, brackets and line ends: everything a redaction by pattern might stumble over.
    const value = fc
      .array(fc.constantFrom('"', "'", '(', ')', '{', '}', '\n', ' ', ':', '=', 'é', 'x', '\\'))
      .map((parts) => `§one${parts.join('')}§two`)
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...statements), value, async (sql, secret) => {
        const error = await test.db.query(sql, [secret]).then(
          () => undefined,
          (thrown: unknown) => thrown,
        )
        expect(error, sql).toBeInstanceOf(Error)
        for (const thrown of [error, new Error('outer', { cause: error })]) {
          const text = JSON.stringify(describeError(thrown))
          expect(text, sql).not.toMatch(/§one|§two/)
          expect(text, sql).toContain('sqlState')
        }
      }),
      { numRuns: 200 },
    )
  })

  it('keeps what helps: the state, the table, the constraint, the message without values', async () => {
    await test.db.execute('create table doubled (id int constraint only_once primary key)')
    const error = await test.db.execute('insert into doubled values (1), (1)').catch((thrown: unknown) => thrown)
    expect(describeError(error)).toEqual({
      type: 'DatabaseError',
      sqlState: '23505',
      message: 'duplicate key value violates unique constraint "…"',
      schema: 'public',
      table: 'doubled',
      column: undefined,
      constraint: 'only_once',
      routine: '_bt_check_unique',
    })
    const missing = await test.db.query('select * from nowhere').catch((thrown: unknown) => thrown)
    expect(describeError(missing)).toMatchObject({ sqlState: '42P01', message: 'relation "nowhere" does not exist' })
  })

  it('follows causes, and says nothing of what is not an error', () => {
    expect(describeError(new Error('a', { cause: new TypeError('b') }))).toMatchObject({
      type: 'Error',
      message: 'a',
      cause: { type: 'TypeError', message: 'b' },
    })
    for (const thrown of ['§secret§', { password: 'x' }, null, undefined, 7])
      expect(describeError(thrown)).toEqual({ message: 'a value that is not an Error was thrown' })
    expect(describeError(Object.assign(new Error('broken pipe'), { code: 'EPIPE' }))).toMatchObject({
      type: 'Error',
      message: 'broken pipe',
    })
  })
})

describe('subjectTag', () => {
  const key = 'ab'.repeat(32)

  it('is the same for the same person, and another with another key', () => {
    expect(subjectTag(key, 'user-1')).toMatch(/^[0-9a-f]{32}$/)
    expect(subjectTag(key, 'user-1')).toBe(subjectTag(key.toUpperCase(), 'user-1'))
    expect(new Set([subjectTag(key, 'user-1'), subjectTag(key, 'user-2'), subjectTag('cd'.repeat(32), 'user-1')]).size).toBe(3)
  })
})
