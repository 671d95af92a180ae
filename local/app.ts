/** The looked-after app itself, as far as the stack has one: a page whose answer says that it is up. */
export async function appPage(request: Request, example: string): Promise<Response> {
  if (request.method !== 'GET' && request.method !== 'HEAD') return new Response(null, { status: 405, headers: { allow: 'GET, HEAD' } })
  const html = `<!doctype html><html lang="en"><meta charset="utf-8"><title>${example}</title><p>The example app "${example}" is up.</p></html>\n`
  return new Response(request.method === 'HEAD' ? null : html, { headers: { 'content-type': 'text/html; charset=utf-8' } })
}
