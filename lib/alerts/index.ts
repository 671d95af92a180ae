export { channelNames } from './channels/names.ts'
export { countAbandoned, endAbandoned } from './end-abandoned.ts'
export { enqueueNotification, type NewNotification } from './enqueue-notification.ts'
export { type Evaluation, evaluateAlerts } from './evaluate-alerts.ts'
export {
  acknowledgeIncident,
  actorName,
  addNote,
  type ChecklistItem,
  checkItem,
  countOldIncidents,
  describeEvent,
  type Impact,
  type Incident,
  type IncidentActor,
  type IncidentAlert,
  type IncidentDetail,
  type IncidentEvent,
  type IncidentFilter,
  type IncidentState,
  type IncidentUpdate,
  incidentStates,
  listIncidents,
  nextPage,
  type OpenIncident,
  openElsewhere,
  openIncident,
  type PublicIncident,
  type PublicUpdate,
  postmortem,
  pruneIncidents,
  publicIncidents,
  resolveIncident,
  type Severity,
  setSeverity,
  severityMatrix,
  showIncident,
  showIncidentPart,
  updateIncident,
} from './incidents/index.ts'
export { alertsJob, notifyJob, planAlerts, planNotify } from './jobs.ts'
export { type Alert, listAlerts, listNotifications, type Notification } from './list-alerts.ts'
export { listRules, type RuleInfo } from './list-rules.ts'
export { type Matcher, matchesAll, showMatchers } from './matchers.ts'
export { countPrunableAlerts, type PrunableAlerts, pruneAlerts } from './prune.ts'
export { type Replay, type ReplayedAlert, replayRule } from './replay.ts'
export { type SendingOutcome, sendNotifications } from './send-notifications.ts'
export { showChannelSecret } from './show-channel-secret.ts'
export { listSilences, type Silence, silence, unsilence } from './silences.ts'
export type { AlertSources, CheckObservation, Figure, FigureQuery, Maintenance } from './sources.ts'
export { tellWatchingAgain, tellWithoutDatabase } from './tell-directly.ts'
export { testChannel } from './test-channel.ts'
export type { AlertChange, NotificationKind, NotificationPayload } from './types.ts'
export { notifyWaits } from './waiting.ts'
