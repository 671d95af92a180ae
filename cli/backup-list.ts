import type { BackupSummary, Loss } from '../lib/backup/index.ts'
import { refuseMore } from './backup-command.ts'
import type { Command } from './command.ts'
import { bytes, duration, table } from './output.ts'

export const list: Command = {
  name: 'backup list',
  summary: 'List the backups in the store, newest first, who signed them, and what a loss of the database would cost now',
  async run({ out, context, args }) {
    refuseMore(args, 0, 'backup list')
    const ctx = await context()
    const { listBackups, lossOf, pinnedSigners, signerOf } = await import('../lib/backup/index.ts')
    const backups = await listBackups(ctx)
    const now = ctx.clock.now().getTime()
    const lines: string[] = []
    for (const [heading, some] of byDatabase(backups)) {
      const counted = some.filter((backup) => backup.trusted)
      const sentence = counted.length === 0 ? [] : [lossSentence(await lossOf(ctx, counted))]
      lines.push([...heading, listing(some, now), ...sentence].join('\n'))
    }
    const keys = new Set((await pinnedSigners(ctx.db).catch(() => [])).map((one) => one.publicKey))
    const own = signerOf(ctx.env)
    if (own !== null && (keys.size === 0 || backups.some((backup) => backup.signer === own.publicKey))) keys.add(own.publicKey)
    const untrusted = backups.filter((backup) => backup.problem === undefined && !backup.trusted)
    if (untrusted.length > 0)
      lines.push(
        `NOT counted: ${untrusted.length} that nothing vouches for. Somebody who may write to the store can have made them. Name a key you know in backup.signers, or restore with --signer KEY.`,
      )
    if (keys.size > 0)
      lines.push(`Signed by ${[...keys].join(', ')}. A line "# signer: KEY" in an identity file lets it be restored anywhere.`)
    out.result(backups, backups.length === 0 ? 'There is no backup yet: `caretaker backup run` makes one.' : lines.join('\n\n'))
  },
}

/** With a heading each, where the store holds those of more than one database. */
function byDatabase(backups: readonly BackupSummary[]): [string[], BackupSummary[]][] {
  const groups = new Map<string, BackupSummary[]>()
  for (const backup of backups) {
    const key = backup.problem === undefined ? `"${backup.database}" (${backup.instance ?? 'instance unknown'})` : 'unreadable'
    groups.set(key, [...(groups.get(key) ?? []), backup])
  }
  const several = [...groups.keys()].filter((key) => key !== 'unreadable').length > 1
  if (!several) return [[[], [...backups]]]
  return [...groups].map(([key, some]) => [[key === 'unreadable' ? 'Whose is not known:' : `Database ${key}:`], some])
}

function listing(backups: readonly BackupSummary[], now: number): string {
  const lines = backups.map((backup) =>
    backup.problem === undefined
      ? [
          backup.id,
          age(now - Date.parse(backup.createdAt)),
          bytes(backup.storedBytes),
          backup.tables,
          backup.rows,
          backup.encrypted ? 'yes' : 'NO',
          backup.trusted ? (backup.signer === null ? 'NO' : 'yes') : backup.signer === null ? 'NO' : 'UNKNOWN KEY',
          backup.proven === undefined ? 'not yet' : `${backup.proven.proven ? '' : 'FAILED '}${age(now - Date.parse(backup.proven.at))}`,
        ]
      : [backup.id, backup.problem],
  )
  return table(['backup', 'age', 'size', 'tables', 'rows', 'encrypted', 'signed', 'proven'], lines)
}

export function lossSentence(loss: Loss): string {
  if (loss.lostMs === null) return 'If the database died now everything would be lost: there is no backup to count on.'
  const lost = `If the database died now: ${duration(loss.lostMs)} of data lost`
  if (loss.openAgainMs === null || loss.drilledAt === null)
    return `${lost}; how long until it is open again is not known before a drill has measured it (caretaker backup drill).`
  return `${lost}, open again in about ${duration(loss.openAgainMs)} (measured by the drill of ${loss.drilledAt.slice(0, 10)}).`
}

function age(ms: number): string {
  const minutes = Math.max(0, Math.round(ms / 60_000))
  if (minutes < 120) return `${minutes} min ago`
  return minutes < 2 * 1440 ? `${Math.round(minutes / 60)} h ago` : `${Math.round(minutes / 1440)} days ago`
}
