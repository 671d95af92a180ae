import { describe, expect, test } from 'vitest'
import { splitStatements } from '../../lib/backup/sql/split-statements.ts'

const cut = (script: string, key?: string) => splitStatements(script, key).map((statement) => statement.sql)

describe('semicolons that end nothing', () => {
  test.each([
    ['in a string', `select 'a;b''; c';`],
    ['in an escape string', `select E'it\\'s; ', e'\\\\';`],
    ['in a name', `create table "a;b""c;" (x int);`],
    ['in dollar quotes', `do $$ begin; $x$ ; $x$ end $$;`],
    ['in tagged dollar quotes', `do $body$ select $$;$$; $body$;`],
    ['in a comment', `select 1 -- no; end\n + /* ; /* ; */ ; */ 2;`],
    ['in a rule', `create rule r as on delete to t do instead (select 1; select 2);`],
    [
      'in an SQL-standard body',
      `create or replace function f() returns int language sql begin atomic; select case when true then 1 end; select 2; end;`,
    ],
    ['in a procedure', `create procedure p() begin atomic insert into t values (1); end;`],
  ])('%s', (_where, statement) => {
    expect(cut(`${statement}\nselect 2;`)).toEqual([statement, 'select 2;'])
  })
})

test('"begin" and "end" mean nothing elsewhere', () => {
  expect(cut('begin; create table begin_end (a int); end; select 1;')).toEqual([
    'begin;',
    'create table begin_end (a int);',
    'end;',
    'select 1;',
  ])
  expect(cut(`create view v as select 1 as "case" ; select 2;`)).toHaveLength(2)
  expect(cut(`create function case_when() returns text language sql as $$ select 'x' $$; select 2;`)).toHaveLength(2)
})

test('a dollar inside a name and in parameters quotes nothing', () => {
  expect(cut('select a$b$c; prepare q as select $1; select 1;')).toEqual(['select a$b$c;', 'prepare q as select $1;', 'select 1;'])
})

test('the entry a statement belongs to is known from the comment before it', () => {
  const script = `--\n-- Name: t a_b; Type: FK CONSTRAINT; Schema: public; Owner: me\n--\n\nALTER TABLE t ADD x;\nALTER TABLE t ADD y;\n`
  expect(splitStatements(script)).toEqual([
    { sql: 'ALTER TABLE t ADD x;', type: 'FK CONSTRAINT', name: 't a_b', schema: 'public', owner: 'me' },
    { sql: 'ALTER TABLE t ADD y;', type: 'FK CONSTRAINT', name: 't a_b', schema: 'public', owner: 'me' },
  ])
})

describe("psql's own commands", () => {
  test('\\restrict is left out for the key that was chosen, and inside quotes it is text', () => {
    expect(cut(`\\restrict k1\nselect '\n\\restrict k1\n';\n\\unrestrict k1\n`, 'k1')).toEqual([`select '\n\\restrict k1\n';`])
  })

  test.each(['\\restrict other\n', '\\! touch /tmp/owned\n', 'select 1;\n\\copy t from x\n', '-- Name: x\n\\! id\n'])(
    'anything else is refused: %j',
    (script) => {
      expect(() => cut(script, 'k1')).toThrow(/psql command/)
    },
  )

  test('what does not end is refused', () => {
    for (const script of [`select 'a`, 'select "a', 'do $$ begin', 'select /* 1']) expect(() => cut(script)).toThrow(/does not end/)
  })
})
