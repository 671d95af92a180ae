/*
 * The rights of the people whose data an app holds. Everything reads one map: what can be exported can be erased.
 */

export { type Consent, readConsents, recordConsent } from './consent/consent.ts'
export { type Elsewhere, type EraseOutcome, eraseSubject, type PlanOutcome, planSubjectErasure } from './erase/erase-subject.ts'
export { erasedPeople } from './erase/erased-people.ts'
export { type SignedReceipt, verifyReceipt } from './erase/receipt.ts'
export { replayTombstones } from './erase/replay-tombstones.ts'
export { type Exported, exportSubject } from './export/export-subject.ts'
export { type Catalogue, readCatalogue } from './map/catalogue.ts'
export { type LintFinding, lintMap } from './map/lint.ts'
export { lintDatabase, lintJob, planLint } from './map/lint-database.ts'
export { describeMap, renderMermaid, renderTree } from './map/render.ts'
export { buildSubjectMap, type SubjectMap } from './map/subject-map.ts'
export { readSubjectMap, requirePolicy } from './policy.ts'
export { rectifiable, rectifySubject } from './rectify/rectify-subject.ts'
export { registerOf, renderRegister } from './register/register.ts'
export { approveRequest, extendRequest, refuseRequest, withdrawRequest } from './requests/decide.ts'
export { exportFileName, openExportFile } from './requests/export-files.ts'
export { confirmCode, exportByCode, requestByMail } from './requests/mailed-code.ts'
export { type OpenedRequest, requestErasure, requestExport } from './requests/open-request.ts'
export { planRequests, processRequest, processRequestsJob } from './requests/process-request.ts'
export { type GdprRequest, getRequest, listRequests } from './requests/request.ts'
