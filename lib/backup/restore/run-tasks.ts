import type { Session } from '../../platform/db.ts'

/** One piece of a restore's work, for one session. */
export interface Task {
  /** What has to be done before. */
  after: Task[]
  /** Lower comes first. */
  group: number
  /** Among those of a group the largest comes first. */
  weight: number
  /** Tables it works on: alone, or beside others that only read or index them. Two that exclude each other would wait inside the server. */
  tables: readonly string[]
  alone: boolean
  /** `spare`: how many sessions have nothing to do at this moment. */
  run(session: Session, spare: number): Promise<void>
}

/**
 * Runs all tasks, one a session at a time: of those that may begin the one of the lowest group, and there the largest. With `inGroups`
 * a session is always left to the lowest group that is not done: no table of hours stands in its way. After the first failure
 * nothing is begun any more, and `stop` is called, which is to end what is under way.
 * @throws the first failure
 */
export async function runTasks(
  sessions: readonly Session[],
  tasks: readonly Task[],
  options: { inGroups: boolean; stop: (failure: unknown) => void },
): Promise<void> {
  const ready = new Queue()
  const missing = new Map<Task, number>()
  const followers = new Map<Task, Task[]>()
  for (const task of tasks) {
    missing.set(task, task.after.length)
    for (const before of task.after) followers.set(before, [...(followers.get(before) ?? []), task])
    if (task.after.length === 0) ready.add(task)
  }
  const running = new Set<Task>()
  const idle = [...sessions]
  let left = tasks.length
  const leftIn = new Map<number, number>()
  for (const task of tasks) leftIn.set(task.group, (leftIn.get(task.group) ?? 0) + 1)
  const groups = [...leftIn.keys()].sort((a, b) => a - b)
  let failure: { cause: unknown } | undefined
  let wake: () => void = () => undefined

  const perform = async (task: Task, session: Session) => {
    try {
      await task.run(session, idle.length)
      left--
      leftIn.set(task.group, (leftIn.get(task.group) ?? 0) - 1)
      for (const follower of followers.get(task) ?? []) {
        const others = (missing.get(follower) ?? 0) - 1
        missing.set(follower, others)
        if (others === 0) ready.add(follower)
      }
    } catch (cause) {
      if (failure === undefined) {
        failure = { cause }
        options.stop(cause)
      }
    }
    running.delete(task)
    idle.push(session)
    wake()
  }

  const mayBegin = (task: Task) => {
    const lowest = groups.find((group) => leftIn.get(group) !== 0) ?? 0
    const ahead = [...running].filter((other) => other.group > lowest).length
    if (options.inGroups && task.group > lowest && ahead >= sessions.length - 1) return false
    return ![...running].some((other) => exclude(task, other))
  }

  for (;;) {
    while (idle.length > 0 && failure === undefined) {
      const task = ready.take(mayBegin)
      const session = task === undefined ? undefined : idle.shift()
      if (task === undefined || session === undefined) break
      running.add(task)
      void perform(task, session)
    }
    if (running.size === 0) break
    await new Promise<void>((woken) => {
      wake = woken
    })
  }
  if (failure !== undefined) throw failure.cause
  if (left > 0) throw new Error(`${left} tasks of a restore wait for each other`)
}

function exclude(one: Task, other: Task): boolean {
  return (one.alone || other.alone) && other.tables.some((table) => one.tables.includes(table))
}

/** Tasks that may begin, the next one first. */
class Queue {
  readonly #tasks: Task[] = []

  add(task: Task): void {
    let from = 0
    let to = this.#tasks.length
    while (from < to) {
      const middle = (from + to) >> 1
      const other = this.#tasks[middle] as Task
      if (other.group < task.group || (other.group === task.group && other.weight >= task.weight)) from = middle + 1
      else to = middle
    }
    this.#tasks.splice(from, 0, task)
  }

  take(may: (task: Task) => boolean): Task | undefined {
    const at = this.#tasks.findIndex(may)
    return at < 0 ? undefined : this.#tasks.splice(at, 1)[0]
  }
}
