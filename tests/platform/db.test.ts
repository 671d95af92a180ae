import { describe, expect, it } from 'vitest'
import { openDatabase } from '../../lib/platform/db.ts'
import { useTestDatabase } from '../support/database.ts'

describe('openDatabase', () => {
  const test = useTestDatabase()

  it('rolls back when the work throws', async () => {
    await test.db.execute('create table kept (n int)')
    await expect(
      test.db.transaction(async (tx) => {
        await tx.execute('insert into kept values (1)')
        throw new Error('no')
      }),
    ).rejects.toThrow('no')
    expect(await test.db.query('select * from kept')).toEqual([])
  })

  it('gives a session without the settings of the one before', async () => {
    await test.db.session((session) => session.execute(`set statement_timeout = '7s'`))
    const [row] = await test.db.session((session) => session.query<{ statement_timeout: string }>('show statement_timeout'))
    expect(row?.statement_timeout).toBe('0')
  })

  it('says database_unavailable when nothing listens, and never the password', async () => {
    const db = openDatabase({ sessionUrl: 'postgres://user:hunter2hunter2@127.0.0.1:1/none' })
    const error = await db.query('select 1').catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ code: 'database_unavailable' })
    expect(String(error)).not.toContain('hunter2')
    await db.close()
  })

  it('says so of whatever ends the connection, such as a database that takes none', async () => {
    const closed = `${test.name}_closed`
    await test.db.execute(`create database ${closed} template template0 allow_connections false`)
    const db = openDatabase({ sessionUrl: test.url.replace(test.name, closed) })
    await expect(db.query('select 1')).rejects.toMatchObject({ code: 'database_unavailable', detail: expect.stringContaining('55000') })
    await expect(test.db.query('select 1 / 0')).rejects.not.toMatchObject({ code: 'database_unavailable' })
    await db.close()
    await test.db.execute(`drop database ${closed}`)
  })

  it('names the missing database', async () => {
    const db = openDatabase({ sessionUrl: test.url.replace(test.name, 'no_such_database') })
    await expect(db.query('select 1')).rejects.toMatchObject({ code: 'database_unavailable', detail: expect.stringContaining('3D000') })
    await db.close()
  })
})
