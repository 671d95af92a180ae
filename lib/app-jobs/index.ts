export { appTasks } from './app-tasks.ts'
