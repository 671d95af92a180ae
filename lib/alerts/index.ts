export { channelNames } from './channels/names.ts'
export { enqueueNotification, type NewNotification } from './enqueue-notification.ts'
export {
  acknowledgeIncident,
  type Impact,
  type Incident,
  type IncidentActor,
  type IncidentAlert,
  type IncidentDetail,
  type IncidentEvent,
  type IncidentState,
  incidentStates,
  listIncidents,
  type PublicIncident,
  type PublicUpdate,
  publicIncidents,
  type Severity,
  severityMatrix,
  showIncident,
} from './incidents/index.ts'
export { type Alert, listAlerts, listNotifications, type Notification } from './list-alerts.ts'
export { type Matcher, showMatchers } from './matchers.ts'
export { listSilences, type Silence, silence, unsilence } from './silences.ts'
export type { AlertChange, NotificationKind, NotificationPayload } from './types.ts'
