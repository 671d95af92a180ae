import { type Checker, judgeApi, notConfigured } from '../checker.ts'

/** Stack Auth answers and accepts the project's server key: the project itself. https://docs.stack-auth.com/rest-api */
export const stackAuth: Checker = async (ctx, _check, signal) => {
  const { STACK_PROJECT_ID: project, STACK_SECRET_SERVER_KEY: key } = ctx.env
  if (project === undefined || key === undefined) return notConfigured
  return judgeApi(
    await ctx.fetch('https://api.stack-auth.com/api/v1/projects/current', {
      headers: { 'x-stack-access-type': 'server', 'x-stack-project-id': project, 'x-stack-secret-server-key': key },
      redirect: 'manual',
      signal,
    }),
  )
}
