import { identifier } from '../platform/db.ts'
import type { SourceRole } from './catalogue.ts'
import { literal } from './sequences.ts'

/**
 * Statements that make the roles a schema speaks of, where they are missing: without password and, until somebody
 * gives them one, without login. Attributes that only a superuser may give are left to a person.
 */
export function rolesSql(roles: readonly SourceRole[]): string {
  const made = roles.map((role) =>
    block(
      `if not exists (select from pg_catalog.pg_roles where rolname = ${literal(role.name)}) then create role ${identifier(role.name)} nologin${role.inherit ? '' : ' noinherit'}; end if;`,
    ),
  )
  const joined = roles.flatMap((role) =>
    role.memberOf
      .filter((group) => group.startsWith('pg_') || roles.some((other) => other.name === group))
      .map((group) =>
        block(
          `if not pg_catalog.pg_has_role(${literal(role.name)}, ${literal(group)}, 'member') then grant ${identifier(group)} to ${identifier(role.name)}; end if; exception when insufficient_privilege or undefined_object then raise warning 'membership left out';`,
        ),
      ),
  )
  return `${["set standard_conforming_strings = 'on';", ...made, ...joined].join('\n')}\n`
}

/** An anonymous block in single quotes: no name inside can end it. */
function block(body: string): string {
  return `do ${literal(`begin ${body} end`)};`
}
