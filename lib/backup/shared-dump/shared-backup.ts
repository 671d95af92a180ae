import { type Context, remainingMs } from '../../platform/context.ts'
import { CaretakerError } from '../../platform/errors.ts'
import type { JobRun } from '../../platform/job.ts'
import { emitEvent } from '../../platform/outbox.ts'
import { type BackupReport, reportOf } from '../backup-database.ts'
import { recipientsOf } from '../drill/identity.ts'
import { backupFolder, type Manifest, readManifest } from '../manifest.ts'
import type { Sealing } from '../object-stream.ts'
import { dumpSessions, newBackupId, type OpenDump, openDump, otherSessions } from '../open-dump.ts'
import { backupPolicy } from '../policy.ts'
import { withSessions } from '../sessions.ts'
import { ownTrust } from '../signing/index.ts'
import { importSnapshot, newParticipant, type Outcome, type Pace, type Participation, participate, usualPace } from './participate.ts'
import * as queries from './queries.ts'

interface Checkpoint {
  backup: string | null
  /** How often the snapshot was lost. */
  lost: number
  beganAt: string
}

/** A backup is begun anew at most so often when its snapshot is lost. */
const mostLost = 2

/**
 * A backup that outlives the invocation it began in, and that several can work on at once. The job's own invocation
 * opens and seals the dump; any other worker may take parts. The snapshot is relayed: whoever takes part imports it from
 * somebody who has it, and nobody leaves before another one does. If it is lost all the same, nothing of the attempt is
 * used: the objects are deleted, the loss is told, and the backup begins anew.
 * @throws {CaretakerError} `backup_incomplete` when the snapshot was lost three times; what openDump and dumpPart throw
 */
export async function sharedBackup(ctx: Context, run: JobRun, pace: Pace = usualPace): Promise<BackupReport | 'hand-over'> {
  let checkpoint = (run.checkpoint as Checkpoint | null) ?? { backup: null, lost: 0, beganAt: ctx.clock.now().toISOString() }
  for (;;) {
    const known = checkpoint.backup === null ? null : await queries.loadDump(ctx.db, checkpoint.backup)
    const attempt =
      known === null || known.state === 'lost' ? await begin(ctx, run, checkpoint, pace) : await goOn(ctx, run, known.dump, pace)
    if (attempt === null && checkpoint.backup !== null) {
      checkpoint = await giveUp(ctx, run, { ...checkpoint, backup: checkpoint.backup })
      continue
    }
    if (attempt?.status === 'sealed') {
      const store = await ctx.objects()
      return reportOf(attempt.manifest, store.url, ctx.clock.now().getTime() - new Date(checkpoint.beganAt).getTime())
    }
    if (attempt?.status === 'left') return 'hand-over'
    // Ended by a coordinator that was presumed dead: look at what it left.
    const state = checkpoint.backup === null ? null : await queries.dumpState(ctx.db, checkpoint.backup)
    if (state === 'open') return 'hand-over'
    throw new CaretakerError('backup_incomplete', `Backup ${checkpoint.backup ?? ''} was ended by another worker.`)
  }
}

async function begin(ctx: Context, run: JobRun, checkpoint: Checkpoint, pace: Pace): Promise<Outcome> {
  const policy = backupPolicy(ctx)
  const id = newBackupId(ctx.clock.now())
  const sealing = await sealingOf(ctx, id)
  return withSessions(
    ctx.db.sessionUrl,
    ctx.env.DATABASE_CA,
    policy.connections + otherSessions,
    async (opened) => {
      const sessions = dumpSessions(opened)
      const opening = await openDump(ctx, policy, sealing, id, sessions, { partBytes: pace.partBytes })
      const dump: OpenDump = { ...opening.dump, ...(await opening.schema) }
      const self = newParticipant(ctx, dump.snapshot.id)
      await ctx.db.transaction(async (tx) => {
        await queries.recordDump(tx, dump, self)
        checkpoint.backup = id
        await run.save(checkpoint, tx)
      })
      const helpers = (ctx.config.backup?.workers ?? 1) - 1
      for (let helper = 0; helper < Math.min(helpers, dump.parts.length - 1); helper++) await run.callForHelp()
      return participate({ ctx, dump, sealing, coordinator: true, callForHelp: () => run.callForHelp(), pace }, sessions.workers, self)
    },
    ctx.signal,
  )
}

/** Takes up a dump that an earlier invocation opened. Null when its snapshot is lost. */
async function goOn(ctx: Context, run: JobRun, dump: OpenDump, pace: Pace): Promise<Outcome | null> {
  const sealed = await findSealed(ctx, dump)
  if (sealed !== null) {
    await queries.endDump(ctx.db, dump.id, 'sealed')
    return { status: 'sealed', manifest: sealed }
  }
  return joinDump(ctx, dump, { coordinator: true, callForHelp: () => run.callForHelp(), pace })
}

async function joinDump(
  ctx: Context,
  dump: OpenDump,
  as: Pick<Participation, 'coordinator' | 'callForHelp' | 'pace'>,
): Promise<Outcome | null> {
  const policy = backupPolicy(ctx)
  const sealing = await sealingOf(ctx, dump.id)
  return withSessions(
    ctx.db.sessionUrl,
    ctx.env.DATABASE_CA,
    policy.connections,
    async (sessions) => {
      const snapshot = await importSnapshot(ctx, dump, sessions, as.pace)
      if (snapshot === null) return null
      const self = newParticipant(ctx, snapshot)
      await queries.recordParticipant(ctx.db, dump.id, self)
      return participate({ ctx, dump, sealing, ...as }, sessions, self)
    },
    ctx.signal,
  )
}

/** Killed between the manifest and the note that it is written: the backup is complete. */
async function findSealed(ctx: Context, dump: OpenDump): Promise<Manifest | null> {
  const store = await ctx.objects()
  if ((await store.head(`${backupFolder(dump.id)}manifest.json`)) === null) return null
  const { manifest, signer } = await readManifest(store, dump.id)
  await ownTrust(ctx).require(`Backup ${dump.id}`, signer)
  return manifest
}

async function giveUp(ctx: Context, run: JobRun, checkpoint: Checkpoint & { backup: string }): Promise<Checkpoint> {
  const lost = checkpoint.lost + 1
  const next: Checkpoint = { ...checkpoint, backup: null, lost }
  ctx.log.error({ backup: checkpoint.backup, lost }, 'the snapshot of a backup is lost; nothing of it is used')
  await ctx.db.transaction(async (tx) => {
    await queries.endDump(tx, checkpoint.backup, 'lost')
    await emitEvent(tx, 'backup.snapshot_lost', { backup: checkpoint.backup, times: lost })
    await run.save(next, tx)
  })
  const store = await ctx.objects()
  for await (const object of store.list(backupFolder(checkpoint.backup))) await store.delete(object.key)
  if (lost > mostLost)
    throw new CaretakerError(
      'backup_incomplete',
      `The snapshot was lost ${lost} times: every process that held it ended. Give backups more time in one invocation, or more workers (backup.workers).`,
    )
  return next
}

/**
 * Takes a share of a backup that another worker has open.
 * @returns false when there is none, or it has hands enough
 */
export async function assistBackup(ctx: Context, callForHelp: () => Promise<void>, pace: Pace = usualPace): Promise<boolean> {
  if (ctx.config.backup === undefined || !(await queries.canShare(ctx.db))) return false
  const dump = await queries.findOpenDump(ctx.db, pace.leaseSeconds)
  if (dump === null || remainingMs(ctx) < 2 * pace.leaveMs) return false
  const present = await queries.listParticipants(ctx.db, dump.id, pace.leaseSeconds)
  const wanted = ctx.config.backup.workers ?? 1
  const staying = present.filter((other) => other.leavesAt.getTime() - ctx.clock.now().getTime() > 3 * pace.leaveMs)
  if (staying.length >= wanted) return false
  const outcome = await joinDump(ctx, dump, { coordinator: false, callForHelp, pace })
  return outcome !== null
}

async function sealingOf(ctx: Context, id: string): Promise<Sealing> {
  const store = await ctx.objects()
  return { store, folder: backupFolder(id), ...(await recipientsOf(ctx, store, id, backupPolicy(ctx).recipients)), signal: ctx.signal }
}
