-- What a request goes through beside its state: how it was verified, what holds it back, what was said to the person.
alter table caretaker.gdpr_requests
  add column verified_by text check (verified_by in ('token', 'operator', 'link')),
  -- Until then the person can take it back.
  add column not_before timestamptz,
  add column review text check (review in ('needed', 'approved')),
  add column extended_at timestamptz,
  add column extension_reason text,
  -- The fewest days before the deadline that were reminded of; -1 when it is overdue and that was said.
  add column reminded_days int,
  -- A mailed link: the SHA-256 of its code, which works once. `named` is the address it goes to, encrypted, until it is sent.
  add column named bytea,
  add column code_hash bytea unique,
  add column code_expires_at timestamptz,
  add column code_sent_at timestamptz,
  -- When the file of an export is deleted.
  add column file_expires_at timestamptz;

create index gdpr_requests_deadline on caretaker.gdpr_requests (due_at)
  where state in ('received', 'verified', 'in_progress', 'waiting');
