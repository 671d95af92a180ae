import twilio from 'twilio'

// The provider's own library signs: an implementation of the scheme that is not ours.

/** What Twilio posts: a form, signed for `url`, which is the public address with its query. */
export function twilioForm(
  url: string,
  parameters: Record<string, string>,
  token: string,
): { headers: Record<string, string>; body: string } {
  return {
    headers: {
      'content-type': 'application/x-www-form-urlencoded',
      'x-twilio-signature': twilio.getExpectedTwilioSignature(token, url, parameters),
    },
    body: new URLSearchParams(parameters).toString(),
  }
}

/** An incoming message, as Twilio's parameters have it. https://www.twilio.com/docs/messaging/guides/webhook-request */
export function incomingMessage(
  message: { sid: string; from: string; to: string; body: string } & Record<string, unknown>,
): Record<string, string> {
  const { sid, from, to, body, ...more } = message
  return {
    ToCountry: 'US',
    MessageSid: sid,
    SmsMessageSid: sid,
    SmsSid: sid,
    SmsStatus: 'received',
    AccountSid: 'AC00000000000000000000000000000000',
    ApiVersion: '2010-04-01',
    NumMedia: '0',
    NumSegments: '1',
    From: from,
    To: to,
    Body: body,
    ...(more as Record<string, string>),
  }
}
