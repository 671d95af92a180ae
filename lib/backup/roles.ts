import { identifier } from '../platform/db.ts'
import type { SourceMembership, SourceRole, SourceSetting } from './catalogue.ts'
import { block, noting } from './left-out.ts'
import { literal } from './sequences.ts'
import { settingValue } from './settings.ts'

/**
 * Statements that make the roles a schema speaks of, where they are missing: with their attributes, memberships and settings, and
 * without their passwords. What the restoring role may not give is noted and left out. A role that is there stays as it is.
 */
export function rolesSql(roles: readonly SourceRole[], settings: readonly SourceSetting[]): string {
  const made = roles.map((role) =>
    makeRole(
      role,
      settings.filter((one) => one.role === role.name && !one.inDatabase),
    ),
  )
  const joined = roles.flatMap((role) =>
    role.memberships
      .filter(({ role: group }) => group.startsWith('pg_') || roles.some((other) => other.name === group))
      .map((membership) => join(role.name, membership)),
  )
  return `${["set standard_conforming_strings = 'on';", ...made, ...joined].join('\n')}\n`
}

function makeRole(role: SourceRole, settings: readonly SourceSetting[]): string {
  const name = identifier(role.name)
  const attributes = [
    ...(role.superuser ? ['superuser'] : []),
    ...(role.createRole ? ['createrole'] : []),
    ...(role.createDatabase ? ['createdb'] : []),
    ...(role.replication ? ['replication'] : []),
    ...(role.bypassRls ? ['bypassrls'] : []),
    ...(role.connectionLimit < 0 ? [] : [`connection limit ${role.connectionLimit}`]),
    ...(role.login ? ['login'] : []),
  ]
  return block([
    `if exists (select from pg_catalog.pg_roles where rolname = ${literal(role.name)}) then return; end if;`,
    `begin create role ${name} nologin${role.inherit ? '' : ' noinherit'};`,
    'exception when duplicate_object or unique_violation then return;',
    `when insufficient_privilege then ${noting(`role ${role.name}`, 'this role may not make roles; make it, or give what it owned to another')} return; end;`,
    ...attributes.map((attribute) => attempt(`alter role ${name} ${attribute}`, `attribute ${attribute} of role ${role.name}`)),
    ...settings.map((setting) =>
      attempt(
        `alter role ${name} set ${identifier(setting.name)} to ${settingValue(setting)}`,
        `setting ${setting.name} of role ${role.name}`,
      ),
    ),
  ])
}

/** `WITH ADMIN TRUE` and its like are known since PostgreSQL 16; written as text, so that an older server need not read it. */
function join(member: string, { role, admin, inherit, set }: SourceMembership): string {
  const grant = `grant ${identifier(role)} to ${identifier(member)}`
  const plain = `${grant}${admin ? ' with admin option' : ''}`
  const exact = inherit === null || set === null ? plain : `${grant} with admin ${admin}, inherit ${inherit}, set ${set}`
  const what = `membership of ${member} in ${role}`
  return block([
    `if pg_catalog.pg_has_role(${literal(member)}, ${literal(role)}, 'member') then return; end if;`,
    `execute case when pg_catalog.current_setting('server_version_num')::pg_catalog.int4 >= 160000 then ${literal(exact)} else ${literal(plain)} end;`,
    `exception when others then ${noting(what, 'the server refused it')}`,
  ])
}

function attempt(statement: string, what: string): string {
  return `begin ${statement}; exception when others then ${noting(what, 'the server refused it')} end;`
}
