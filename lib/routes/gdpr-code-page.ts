import { createHash } from 'node:crypto'

// The code comes in the fragment of the address, which no server is sent; reading it there takes a script.
const script = `
const form = document.querySelector('form')
const said = document.querySelector('[role=status]')
const button = form.querySelector('button')
if (location.hash.length > 1) { form.code.value = location.hash.slice(1); history.replaceState(null, '', location.pathname) }
form.addEventListener('submit', async (event) => {
  event.preventDefault()
  button.disabled = true
  said.textContent = 'One moment…'
  const response = await fetch(location.pathname, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ code: form.code.value.trim() }) }).catch(() => null)
  button.disabled = false
  if (response?.ok && response.headers.get('content-type') === 'application/zip') {
    const link = document.createElement('a')
    link.href = URL.createObjectURL(await response.blob())
    link.download = 'your-data.zip'
    link.click()
    said.textContent = 'Your data is being saved.'
    return
  }
  const answer = response === null ? null : await response.json().catch(() => null)
  if (!response?.ok) { said.textContent = answer?.detail ?? 'That did not work. Please try again.'; return }
  if (answer.url) { location.assign(answer.url); said.textContent = 'Your data is being saved.'; return }
  button.disabled = true
  said.textContent = 'Thank you. Your request is confirmed, under the number ' + answer.id + '.'
})
`
const scriptHash = createHash('sha256').update(script).digest('base64')

const pages = {
  confirm: {
    title: 'Confirm your request',
    text: (app: string) =>
      `You asked ${app} for a copy of your data, or to be erased. Confirm it with the code from the message that we sent you.`,
    button: 'It was me',
  },
  download: {
    title: 'Your data',
    text: (app: string) => `Fetch the copy of your data that you asked ${app} for, with the code from the message that we sent you.`,
    button: 'Fetch my data',
  },
}

/**
 * The page behind the link in a mail. Nothing happens by opening it, because mail filters open links too: the person
 * presses the button.
 */
export function codePage(app: string, which: keyof typeof pages): Response {
  const name = app.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)
  const { title, text, button } = pages[which]
  return new Response(
    `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="robots" content="noindex">
<title>${title}: ${name}</title>
<style>
  :root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif }
  body { max-width: 34rem; margin: 3rem auto; padding: 0 1rem }
  input, button { font: inherit; padding: .5rem .75rem; width: 100%; box-sizing: border-box; margin: .25rem 0 1rem }
</style>
<main>
<h1>${title}</h1>
<p>${text(name)}</p>
<form>
  <label for="code">Code</label>
  <input id="code" name="code" required minlength="32" maxlength="32" autocomplete="one-time-code" spellcheck="false">
  <button>${button}</button>
</form>
<p role="status"></p>
<noscript><p>This page needs JavaScript to send the code.</p></noscript>
</main>
<script>${script}</script>
</html>
`,
    {
      headers: {
        'content-type': 'text/html; charset=utf-8',
        'content-security-policy': `default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-${scriptHash}'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
        'referrer-policy': 'no-referrer',
      },
    },
  )
}
