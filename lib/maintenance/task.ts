export type { Counts, PlannedChanges, Task, TaskProgress } from '../platform/task.ts'
