import { isDeepStrictEqual } from 'node:util'
import { CaretakerError } from '../../platform/errors.ts'
import type { Manifest } from '../manifest.ts'
import { type Bound, digestOf, type RestoreState, resuming } from './journal.ts'

/** @throws {CaretakerError} `restore_target_not_empty` for what is half of another backup, or was not to be gone on with */
export function requireSame(found: RestoreState, manifest: Manifest, bound: Bound, resume: boolean): void {
  const state = `The target holds half a restore of backup ${found.backupId}, begun at ${found.startedAt.toISOString()}: ${found.tablesDone} tables are in.`
  const anew = found.bound !== null && 'only' in found.bound ? 'begin anew without --resume' : 'start anew with --clean and its name'
  if (found.backupId !== manifest.id)
    throw new CaretakerError(
      'restore_target_not_empty',
      `${state} Backup ${manifest.id} cannot be added to it: go on with \`${resuming(found.backupId, found.bound)}\`, or ${anew}.`,
    )
  if (!isDeepStrictEqual(found.bound, bound))
    throw new CaretakerError(
      'restore_target_not_empty',
      sameMoment(found.bound, bound)
        ? `${state} Other increments lead to that moment by now: ${anew}.`
        : `${state} It was another one than this: go on with \`${resuming(found.backupId, found.bound)}\`, or ${anew}.`,
    )
  if (found.manifestSha256 !== digestOf(manifest))
    throw new CaretakerError('backup_corrupt', `${state} The manifest of that backup was another one then: ${anew}.`)
  if (!resume) throw new CaretakerError('restore_target_not_empty', `${state} Go on with --resume, or ${anew}.`)
}

function sameMoment(one: Bound, other: Bound): boolean {
  return one !== null && other !== null && 'at' in one && 'at' in other && one.at === other.at
}
