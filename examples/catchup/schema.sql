-- CatchUp: who to call again, and when. Times are timestamptz; a person is a row of users, which extends auth.users. Contacts
-- are people in somebody's address book, who have no account of their own.

-- Users, contacts, groups, tags -----------------------------------------------------------------------------------------

create table users (
  id uuid primary key references auth.users (id) on delete cascade,
  email text not null unique,
  name text not null,
  phone text,
  timezone text not null default 'UTC',
  created_at timestamptz not null default now()
);
create index idx_users_phone on users (phone);

create table contacts (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references users (id) on delete cascade,
  name text not null,
  email text,
  phone text,
  -- How often one would like to hear of each other.
  contact_every interval not null default '30 days',
  archived boolean not null default false,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
create index idx_contacts_user_id on contacts (user_id);
create index idx_contacts_user_archived on contacts (user_id, archived);

create table groups (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references users (id) on delete cascade,
  name text not null,
  unique (user_id, name)
);

create table contact_groups (
  contact_id uuid not null references contacts (id) on delete cascade,
  group_id uuid not null references groups (id) on delete cascade,
  primary key (contact_id, group_id)
);
create index idx_contact_groups_group_id on contact_groups (group_id);

create table tags (
  id uuid primary key default gen_random_uuid(),
  contact_id uuid not null references contacts (id) on delete cascade,
  text text not null,
  created_at timestamptz not null default now()
);
create index idx_tags_contact_id on tags (contact_id);

-- Suggestions, interactions, voice notes --------------------------------------------------------------------------------

-- Partitioned by user_id. The key of a partitioned table must hold what it is partitioned by, so it is (user_id, id).
create table suggestions (
  id uuid not null default gen_random_uuid(),
  user_id uuid not null references users (id) on delete cascade,
  contact_id uuid not null references contacts (id) on delete cascade,
  trigger_type text not null check (trigger_type in ('time_since_contact', 'shared_free_slot', 'birthday')),
  reasoning text not null,
  status text not null default 'pending' check (status in ('pending', 'accepted', 'dismissed', 'snoozed', 'expired')),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (user_id, id)
) partition by hash (user_id);
create table suggestions_p0 partition of suggestions for values with (modulus 4, remainder 0);
create table suggestions_p1 partition of suggestions for values with (modulus 4, remainder 1);
create table suggestions_p2 partition of suggestions for values with (modulus 4, remainder 2);
create table suggestions_p3 partition of suggestions for values with (modulus 4, remainder 3);
create index idx_suggestions_user_id on suggestions (user_id);
create index idx_suggestions_contact_id on suggestions (contact_id);
create index idx_suggestions_status on suggestions (status);
create index idx_suggestions_created_at on suggestions (created_at);
create index idx_suggestions_user_status on suggestions (user_id, status);
create index idx_suggestions_user_status_created on suggestions (user_id, status, created_at desc)
  include (contact_id, trigger_type, reasoning);

create table voice_notes (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references users (id) on delete cascade,
  -- In the bucket voice-notes: the first folder is the user's id.
  storage_path text not null unique,
  transcript text,
  status text not null default 'transcribed' check (status in ('uploaded', 'transcribed', 'failed')),
  created_at timestamptz not null default now()
);
create index idx_voice_notes_user_id on voice_notes (user_id);

create table interaction_logs (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references users (id) on delete cascade,
  contact_id uuid not null references contacts (id) on delete cascade,
  voice_note_id uuid references voice_notes (id) on delete set null,
  suggestion_id uuid,
  channel text not null check (channel in ('call', 'message', 'meeting')),
  notes text,
  interacted_at timestamptz not null default now(),
  foreign key (user_id, suggestion_id) references suggestions (user_id, id) on delete set null (suggestion_id)
);
create index idx_interaction_logs_user_id on interaction_logs (user_id, suggestion_id);
create index idx_interaction_logs_contact_id on interaction_logs (contact_id, interacted_at desc);
create index idx_interaction_logs_voice_note_id on interaction_logs (voice_note_id);

-- Preferences, calendars, notifications ---------------------------------------------------------------------------------

create table availability_preferences (
  user_id uuid primary key references users (id) on delete cascade,
  free_slots jsonb not null default '[]',
  updated_at timestamptz not null default now()
);

create table notification_preferences (
  user_id uuid primary key references users (id) on delete cascade,
  channel text not null default 'email' check (channel in ('sms', 'email', 'none')),
  -- The weekly batch: 0 is Sunday.
  batch_day smallint not null default 0 check (batch_day between 0 and 6),
  batch_hour smallint not null default 9 check (batch_hour between 0 and 23)
);

create table google_accounts (
  user_id uuid primary key references users (id) on delete cascade,
  access_token_encrypted text not null,
  refresh_token_encrypted text not null,
  scopes text[] not null default '{calendar.readonly,contacts.readonly}',
  last_synced_at timestamptz
);

create table calendar_events (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references users (id) on delete cascade,
  google_event_id text not null,
  title text,
  starts_at timestamptz not null,
  ends_at timestamptz not null,
  unique (user_id, google_event_id)
);
create index idx_calendar_events_ends_at on calendar_events (ends_at);

create table notifications (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references users (id) on delete cascade,
  channel text not null check (channel in ('sms', 'email')),
  -- Twilio's or SendGrid's own id of the message.
  provider_id text unique,
  status text not null default 'sent' check (status in ('sent', 'delivered', 'bounced', 'failed')),
  sent_at timestamptz not null default now()
);
create index idx_notifications_user_id on notifications (user_id);
create index idx_notifications_sent_at on notifications (sent_at);

create table sms_replies (
  id uuid primary key default gen_random_uuid(),
  user_id uuid references users (id) on delete cascade,
  twilio_sid text not null unique,
  body text not null,
  received_at timestamptz not null default now()
);
create index idx_sms_replies_user_id on sms_replies (user_id);
create index idx_sms_replies_received_at on sms_replies (received_at);

-- Audit -----------------------------------------------------------------------------------------------------------------

create table login_attempts (
  id bigint generated always as identity primary key,
  -- Whoever fails to log in is nobody yet.
  email text not null,
  succeeded boolean not null,
  ip_address inet,
  attempted_at timestamptz not null default now()
);
create index idx_login_attempts_email on login_attempts (lower(email));
create index idx_login_attempts_attempted_at on login_attempts (attempted_at);

create table audit_logs (
  id bigint generated always as identity primary key,
  user_id uuid references users (id) on delete set null,
  action text not null,
  entity text not null,
  ip_address inet,
  created_at timestamptz not null default now()
);
create index idx_audit_logs_user_id on audit_logs (user_id);
create index idx_audit_logs_created_at on audit_logs (created_at);

-- Who sees what ---------------------------------------------------------------------------------------------------------

alter table users enable row level security;
alter table contacts enable row level security;
alter table groups enable row level security;
alter table contact_groups enable row level security;
alter table tags enable row level security;
alter table suggestions enable row level security;
-- Read by their own names, partitions go by their own policies: they have none.
alter table suggestions_p0 enable row level security;
alter table suggestions_p1 enable row level security;
alter table suggestions_p2 enable row level security;
alter table suggestions_p3 enable row level security;
alter table voice_notes enable row level security;
alter table interaction_logs enable row level security;
alter table availability_preferences enable row level security;
alter table notification_preferences enable row level security;
alter table google_accounts enable row level security;
alter table calendar_events enable row level security;
alter table notifications enable row level security;
alter table sms_replies enable row level security;
alter table login_attempts enable row level security;
alter table audit_logs enable row level security;

-- (select auth.uid()) is computed once a statement; auth.uid() would be computed once a row.
create policy own_row on users for select to authenticated using (id = (select auth.uid()));
create policy change_own on users for update to authenticated using (id = (select auth.uid())) with check (id = (select auth.uid()));
create policy own_rows on contacts for all to authenticated using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));
create policy own_rows on groups for all to authenticated using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));
create policy own_rows on contact_groups for all to authenticated
  using (exists (select from contacts c where c.id = contact_id and c.user_id = (select auth.uid())))
  with check (exists (select from contacts c where c.id = contact_id and c.user_id = (select auth.uid()))
    and exists (select from groups g where g.id = group_id and g.user_id = (select auth.uid())));
create policy own_rows on tags for all to authenticated
  using (exists (select from contacts c where c.id = contact_id and c.user_id = (select auth.uid())))
  with check (exists (select from contacts c where c.id = contact_id and c.user_id = (select auth.uid())));
create policy own_rows on suggestions for select to authenticated using (user_id = (select auth.uid()));
create policy change_own on suggestions for update to authenticated using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));
create policy own_rows on voice_notes for select to authenticated using (user_id = (select auth.uid()));
create policy own_rows on interaction_logs for select to authenticated using (user_id = (select auth.uid()));
create policy own_row on availability_preferences for all to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));
create policy own_row on notification_preferences for all to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));
create policy own_rows on calendar_events for select to authenticated using (user_id = (select auth.uid()));
create policy own_rows on notifications for select to authenticated using (user_id = (select auth.uid()));
-- google_accounts, sms_replies, login_attempts and audit_logs have no policy: the service role alone reads them.

create policy own_voice_notes on storage.objects for select to authenticated
  using (bucket_id = 'voice-notes' and (storage.foldername(name))[1] = (select auth.uid())::text);
