-- CatchUp's data, back to a thousand days ago. ../seed-functions.sql explains pg_temp. In the order of the foreign keys.

select pg_temp.sign_up();

insert into users (id, email, name, phone, timezone, created_at)
select pg_temp.key('user', p), pg_temp.email(p), pg_temp.full_name(p), pg_temp.phone(p), (array['UTC','Europe/Paris','America/Chicago','Australia/Sydney'])[1 + pg_temp.pick(p, 11, 4)], now() - pg_temp.account_age(p)
from generate_series(1, pg_temp.people()) p;

-- Two in ten contacts have an account of their own.
insert into contacts (id, user_id, name, email, phone, contact_every, archived, created_at, updated_at)
select pg_temp.key('contact', i), pg_temp.key('user', p), coalesce(pg_temp.full_name(other), 'Friend ' || i), case when i % 3 <> 0 then coalesce(pg_temp.email(other), 'friend' || i || '@example.org') end,
  pg_temp.phone(1000 + i), (array['7 days','14 days','30 days','90 days'])[1 + pg_temp.pick(i, 23, 4)]::interval, i % 12 = 0, now() - age, now() - age / 4
from generate_series(1, pg_temp.rows(0.12)) i,
  lateral (select pg_temp.person(i, 20) as p, case when i % 5 = 0 then 1 + pg_temp.pick(i, 22, pg_temp.people()) end as other) who, lateral (select pg_temp.age_of(i, 24, p) as age) how_old;

insert into groups (id, user_id, name)
select pg_temp.key('group', 3 * p + g), pg_temp.key('user', p), (array['Family','School','Work'])[g]
from generate_series(1, pg_temp.people()) p, generate_series(1, 1 + p % 3) g;

insert into contact_groups (contact_id, group_id)
select c.id, g.id from contacts c join groups g using (user_id)
where pg_temp.pick(('x' || right(c.id::text, 6))::bit(24)::int, 30, 3) = pg_temp.pick(('x' || right(g.id::text, 6))::bit(24)::int, 30, 3);

insert into tags (id, contact_id, text, created_at)
select pg_temp.key('tag', i), c.id, (array['climbing','jazz','two kids','moved to Lisbon','new job'])[1 + pg_temp.pick(i, 42, 5)], c.created_at
from generate_series(1, pg_temp.rows(0.06)) i join contacts c on c.id = pg_temp.key('contact', 1 + pg_temp.pick(i, 40, pg_temp.rows(0.12)));

insert into suggestions (id, user_id, contact_id, trigger_type, reasoning, status, created_at, updated_at)
select pg_temp.key('suggestion', i), c.user_id, c.id, (array['time_since_contact','time_since_contact','shared_free_slot','birthday'])[1 + pg_temp.pick(i, 51, 4)],
  'It has been ' || 10 + pg_temp.pick(i, 52, 80) || ' days', (array['pending','accepted','accepted','dismissed','snoozed','expired'])[1 + pg_temp.pick(i, 53, 6)], now() - age, now() - age / 2
from generate_series(1, pg_temp.rows(0.25)) i join contacts c on c.id = pg_temp.key('contact', 1 + pg_temp.pick(i, 50, pg_temp.rows(0.12))),
  lateral (select pg_temp.within(i, 54, 240) as age) how_old;

-- Every third person has spoken a note or two.
insert into voice_notes (id, user_id, storage_path, transcript, created_at)
select pg_temp.key('note', 2 * p + n), pg_temp.key('user', p), pg_temp.key('user', p) || '/note-' || n || '.wav', 'Had coffee, talked about plan ' || pg_temp.pick(p, 60, 900), now() - pg_temp.account_age(p) / (2 + n)
from generate_series(1, pg_temp.people(), 3) p, generate_series(1, 1 + p % 2) n;

insert into interaction_logs (id, user_id, contact_id, voice_note_id, suggestion_id, channel, notes, interacted_at)
select pg_temp.key('interaction', i), c.user_id, c.id, n.id, s.id, (array['call','message','message','meeting'])[1 + pg_temp.pick(i, 72, 4)], case when i % 4 = 0 then 'Talked about ' || md5('talk:' || i) end,
  now() - (now() - c.created_at) * (pg_temp.pick(i, 73, 1000) / 1000.0)
from generate_series(1, pg_temp.rows(0.2)) i join contacts c on c.id = pg_temp.key('contact', 1 + pg_temp.pick(i, 70, pg_temp.rows(0.12)))
  left join voice_notes n on n.user_id = c.user_id and i % 20 = 0 and n.storage_path like '%note-1.wav'
  left join suggestions s on s.user_id = c.user_id and s.id = pg_temp.key('suggestion', 1 + pg_temp.pick(i, 71, pg_temp.rows(0.25))) and s.contact_id = c.id;

insert into availability_preferences (user_id, free_slots, updated_at)
select pg_temp.key('user', p), jsonb_build_array(jsonb_build_object('day', p % 7, 'from', '18:00', 'to', '20:00')), now() - pg_temp.account_age(p) / 3
from generate_series(1, pg_temp.people()) p;

insert into notification_preferences (user_id, channel, batch_day, batch_hour)
select pg_temp.key('user', p), (array['email','email','sms','none'])[1 + pg_temp.pick(p, 82, 4)], 0, 9 from generate_series(1, pg_temp.people()) p;

insert into google_accounts (user_id, access_token_encrypted, refresh_token_encrypted, last_synced_at)
select pg_temp.key('user', p), 'v1.' || encode(sha256(('access:' || p)::bytea), 'base64'), 'v1.' || encode(sha256(('refresh:' || p)::bytea), 'base64'), now() - pg_temp.within(p, 83, 1)
from generate_series(1, pg_temp.people(), 2) p;

insert into calendar_events (id, user_id, google_event_id, title, starts_at, ends_at)
select pg_temp.key('event', i), pg_temp.key('user', 1 + 2 * pg_temp.pick(i, 90, (pg_temp.people() + 1) / 2)), 'g' || i, (array['Dentist','Lunch','Standup','Concert'])[1 + pg_temp.pick(i, 91, 4)], at, at + interval '1 hour'
from generate_series(1, pg_temp.rows(0.1)) i, lateral (select now() - make_interval(days => 60) + pg_temp.within(i, 92, 100) as at) planned;

insert into notifications (id, user_id, channel, provider_id, status, sent_at)
select pg_temp.key('notification', i), pg_temp.key('user', p), channel, case channel when 'sms' then 'SM' else 'sg_' end || md5('message:' || i),
  case when pg_temp.pick(i, 103, 50) = 0 then case channel when 'sms' then 'failed' else 'bounced' end else 'delivered' end, now() - pg_temp.within(i, 104, 130)
from generate_series(1, pg_temp.rows(0.1)) i, lateral (select pg_temp.person(i, 100) as p, (array['email','email','sms'])[1 + pg_temp.pick(i, 102, 3)] as channel) who;

insert into sms_replies (id, user_id, twilio_sid, body, received_at)
select pg_temp.key('reply', i), pg_temp.key('user', p), 'SM' || md5('reply:' || i), (array['DONE','Later','Called them','NO'])[1 + pg_temp.pick(i, 112, 4)], now() - pg_temp.within(i, 113, 130)
from generate_series(1, pg_temp.rows(0.02)) i, lateral (select pg_temp.person(i, 110) as p) who;

insert into login_attempts (email, succeeded, ip_address, attempted_at)
select case when i % 2 = 0 then upper(pg_temp.email(p)) else pg_temp.email(p) end, i % 9 <> 0,
  -- 203.0.113.0/24 is set aside for documentation.
  ('203.0.113.' || pg_temp.pick(i, 122, 256))::inet, now() - pg_temp.within(i, 123, 120)
from generate_series(1, pg_temp.rows(0.06)) i, lateral (select pg_temp.person(i, 120) as p) who;

insert into audit_logs (user_id, action, entity, ip_address, created_at)
select pg_temp.key('user', p), (array['contact.created','contact.archived','export.requested','settings.changed'])[1 + pg_temp.pick(i, 132, 4)], 'contact/' || pg_temp.key('contact', i),
  ('203.0.113.' || pg_temp.pick(i, 133, 256))::inet, now() - pg_temp.age_of(i, 134, p)
from generate_series(1, pg_temp.rows(0.06)) i, lateral (select pg_temp.person(i, 130) as p) who;

select pg_temp.make_bucket('voice-notes');
select pg_temp.store_file('voice-notes', storage_path, user_id, 'audio/wav', 8044 + octet_length(storage_path)) from voice_notes order by storage_path;
