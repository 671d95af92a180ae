import { expect, test } from 'vitest'
import { definedView, grantedTable, readPostData } from '../../../lib/backup/restore/post-data.ts'

const entry = (type: string, sql: string) => `--\n-- Name: n; Type: ${type}; Schema: s; Owner: o\n--\n\n${sql}\n\n`
const workOf = (type: string, sql: string) => {
  const { work, unread } = readPostData(entry(type, sql), 'k')
  return unread === null ? (work.get(0) ?? null) : unread
}

test.each([
  ['INDEX', 'CREATE UNIQUE INDEX i ON public.t USING btree (a);', { kind: 'index', table: '"public"."t"' }],
  ['INDEX', 'CREATE INDEX "odd ""i" ON ONLY "My s"."t; x" USING btree (a);', { kind: 'index', table: '"My s"."t; x"' }],
  ['INDEX', 'ALTER TABLE public.t CLUSTER ON i;', null],
  ['CONSTRAINT', 'ALTER TABLE ONLY public.t\n    ADD CONSTRAINT t_pkey PRIMARY KEY (id);', { kind: 'constraint', table: '"public"."t"' }],
  ['ROW SECURITY', 'ALTER TABLE public.t ENABLE ROW LEVEL SECURITY;', { kind: 'row security', table: '"public"."t"' }],
  ['POLICY', 'CREATE POLICY "on other.table" ON public.t USING (true);', { kind: 'finish', table: '"public"."t"' }],
  [
    'TRIGGER',
    `CREATE TRIGGER a BEFORE UPDATE OF "b on c.d" ON public.t FOR EACH ROW WHEN ((old.x <> ' on e.f')) EXECUTE FUNCTION g.h(' on i.j ');`,
    { kind: 'finish', table: '"public"."t"' },
  ],
  [
    'TRIGGER',
    'CREATE CONSTRAINT TRIGGER a AFTER INSERT ON public.t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION g.h();',
    { kind: 'finish', table: '"public"."t"' },
  ],
  ['TRIGGER', 'ALTER TABLE public.t ENABLE ALWAYS TRIGGER a;', { kind: 'finish', table: '"public"."t"' }],
  ['RULE', 'CREATE RULE r AS\n    ON DELETE TO public.t DO INSTEAD NOTHING;', { kind: 'finish', table: '"public"."t"' }],
  ['RULE', 'CREATE OR REPLACE VIEW public.v AS SELECT 1;', null],
  ['CHECK CONSTRAINT', 'ALTER TABLE public.t\n    ADD CONSTRAINT c CHECK ((a > 0)) NOT VALID;', { kind: 'finish', table: '"public"."t"' }],
  [
    'STATISTICS',
    'CREATE STATISTICS "S x"."o ""s" (dependencies, mcv) ON a, b, ((c || \' from "S x"."u"\'::text)) FROM "S x"."t.b";',
    { kind: 'statistics', table: '"S x"."t.b"' },
  ],
  ['STATISTICS', 'CREATE STATISTICS s.plain ON a, b FROM public.t;', { kind: 'statistics', table: '"public"."t"' }],
  ['STATISTICS', 'ALTER STATISTICS s.elsewhere SET STATISTICS 300;', null],
  ['FK CONSTRAINT', 'ALTER TABLE ONLY public.t\n    ADD CONSTRAINT c FOREIGN KEY (a, "b)") REFERENCES x.y(z);', 'FK CONSTRAINT n'],
  ['FK CONSTRAINT', 'ALTER TABLE ONLY public.t\n    ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES p.u(id, PERIOD v);', 'FK CONSTRAINT n'],
])('%s: %s', (type, sql, expected) => {
  expect(workOf(type, sql)).toEqual(expected)
})

test('a foreign key names both tables and the columns that are referred to', () => {
  const sql = `ALTER TABLE ONLY "S".child\n    ADD CONSTRAINT "f k" FOREIGN KEY (a, b) REFERENCES public."Par.ent"("x ""y", z) ON DELETE CASCADE NOT VALID;`
  expect(workOf('FK CONSTRAINT', sql)).toEqual({
    kind: 'foreign key',
    table: '"S"."child"',
    foreignKey: { name: 'f k', child: '"S"."child"', parent: '"public"."Par.ent"', parentColumns: ['x "y', 'z'], notValid: true },
  })
})

test('an index is put into that of its partitioned table', () => {
  const script = [
    entry('INDEX', 'CREATE INDEX all_at ON ONLY s.all_of USING btree (at);'),
    entry('CONSTRAINT', 'ALTER TABLE ONLY s.one\n    ADD CONSTRAINT one_pkey PRIMARY KEY (at);'),
    entry('INDEX ATTACH', 'ALTER INDEX s.all_at ATTACH PARTITION s.one_at;'),
    entry('INDEX ATTACH', 'ALTER INDEX s.elsewhere ATTACH PARTITION s.one_at;'),
  ].join('')
  const { work, unread } = readPostData(script, 'k')
  expect(work.get(2)).toEqual({ kind: 'attach', table: '"s"."all_of"' })
  expect(unread).toBe('INDEX ATTACH n')
})

test('the target of a statistics object belongs to its table', () => {
  const { work } = readPostData(
    entry('STATISTICS', 'CREATE STATISTICS s.o ON a, b FROM s.t;') + entry('STATISTICS', 'ALTER STATISTICS s.o SET STATISTICS 300;'),
    'k',
  )
  expect(work.get(1)).toEqual({ kind: 'statistics', table: '"s"."t"' })
})

test('a tablespace that changes on the way leaves all to its order', () => {
  const script = `${entry('INDEX', 'CREATE INDEX a ON s.t USING btree (a);')}SET default_tablespace = fast;\n${entry('INDEX', 'CREATE INDEX b ON s.t USING btree (b);')}`
  const { work, unread, statements } = readPostData(script, 'k')
  expect([work.size, statements.length, unread]).toEqual([0, 3, 'a change of tablespace'])
})

test('a grant is known by its table, a view by its late definition', () => {
  expect(grantedTable('GRANT SELECT,INSERT ON TABLE public.t TO anon;')).toBe('"public"."t"')
  expect(grantedTable('GRANT SELECT(a, "b on table x.y to") ON TABLE "S"."T t" TO anon;')).toBe('"S"."T t"')
  expect(grantedTable('REVOKE ALL ON TABLE public.t FROM PUBLIC;')).toBe('"public"."t"')
  expect(grantedTable('GRANT USAGE ON SCHEMA public TO anon;')).toBeUndefined()
  expect(definedView({ type: 'RULE', sql: 'CREATE OR REPLACE VIEW public.v AS SELECT 1;' })).toBe('"public"."v"')
  expect(definedView({ type: 'RULE', sql: 'CREATE RULE r AS ON INSERT TO public.v DO INSTEAD NOTHING;' })).toBeUndefined()
})
