/** How the words that names of checks are made of are written. */
const words: Record<string, string> = {
  ai: 'AI',
  api: 'API',
  auth: 'sign-in',
  cdn: 'CDN',
  dns: 'DNS',
  gdpr: 'GDPR',
  hume: 'Hume',
  id: 'ID',
  make: 'Make',
  memberstack: 'Memberstack',
  n8n: 'n8n',
  openai: 'OpenAI',
  posthog: 'PostHog',
  redis: 'Redis',
  rest: 'API',
  rls: 'Row level security',
  sendgrid: 'SendGrid',
  sentry: 'Sentry',
  sms: 'SMS',
  stripe: 'Stripe',
  supabase: 'Supabase',
  tls: 'TLS',
  twilio: 'Twilio',
  url: 'URL',
  webflow: 'Webflow',
}

/** A check's name for people: `object-store` is "Object store", `supabase-auth` "Supabase sign-in". */
export function checkTitle(check: string): string {
  const text = check
    .split(/[-_\s]+/)
    .map((word) => words[word.toLowerCase()] ?? word)
    .join(' ')
  // n8n writes itself so.
  return text.startsWith('n8n') ? text : text.charAt(0).toUpperCase() + text.slice(1)
}
