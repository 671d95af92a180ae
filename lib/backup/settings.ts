import { identifier, type Session } from '../platform/db.ts'
import type { SourceSetting } from './catalogue.ts'
import { block, noting, takeLeftOut } from './left-out.ts'
import type { Manifest } from './manifest.ts'
import { type Opening, readObjectText } from './object-stream.ts'
import { runScript } from './run-script.ts'
import { literal } from './sequences.ts'

/** Settings that are lists of names. PostgreSQL keeps them as it would print them, quotes and all. */
const lists: ReadonlySet<string> = new Set([
  'local_preload_libraries',
  'search_path',
  'session_preload_libraries',
  'shared_preload_libraries',
  'temp_tablespaces',
  'unix_socket_directories',
])

/** What stands behind `SET name TO`. */
export function settingValue({ name, value }: Pick<SourceSetting, 'name' | 'value'>): string {
  if (!lists.has(name)) return literal(value)
  const names = [...value.matchAll(/"((?:[^"]|"")*)"|[^",\s]+/g)].map((match) => match[1]?.replaceAll('""', '"') ?? match[0])
  return names.length === 0 ? literal('') : names.map(literal).join(', ')
}

/**
 * Statements that give a database the settings it had, and roles those that they have in it. They come last: a setting may speak of what is
 * restored before. What the target refuses is noted and left out. Empty where there are none.
 */
export function settingsSql(settings: readonly SourceSetting[]): string {
  const statements = settings
    .filter((setting) => setting.inDatabase)
    .map((setting) => {
      const { role, name } = setting
      const who = role === null ? 'alter database %I' : `alter role ${identifier(role).replaceAll('%', '%%')} in database %I`
      const what = `setting ${name} of ${role === null ? 'the database' : `role ${role} in it`}`
      // The target may have another name.
      return block([
        `execute pg_catalog.format(${literal(who)}, pg_catalog.current_database()) || ${literal(` set ${identifier(name)} to ${settingValue(setting)}`)};`,
        `exception when others then ${noting(what, 'the server refused it')}`,
      ])
    })
  return statements.length === 0 ? '' : `${["set standard_conforming_strings = 'on';", ...statements].join('\n')}\n`
}

/**
 * Gives the target the settings that the database had, where the backup has some.
 * @returns what of roles and settings the target refused, each with its reason
 */
export async function restoreSettings(
  session: Session,
  opening: Opening,
  manifest: Pick<Manifest, 'objects' | 'restrictKey'>,
): Promise<{ statement: string; reason: string }[]> {
  const object = manifest.objects.find((candidate) => candidate.kind === 'settings')
  if (object !== undefined)
    await runScript(session, await readObjectText(opening, object), { restrictKey: manifest.restrictKey, platform: null })
  return takeLeftOut(session)
}
