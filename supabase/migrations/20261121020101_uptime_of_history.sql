-- How long the app was up in a period. From the first change of status that was noted, by those; before that by the runs of
-- the health job, of which each says how things stand from when it ended until the next one, but for no longer than
-- `valid_for`. Time that nobody looked at is neither up nor down, so the share is a pair of bounds. Degraded (something that
-- is not critical fails) is up. Announced maintenance is left out of the period, and so is what is still to come.
drop function caretaker.uptime(timestamptz, timestamptz, interval);
create function caretaker.uptime(
  period_start timestamptz,
  period_end timestamptz,
  valid_for interval default interval '10 minutes',
  -- Where several share the database; by default production's, else the one that was looked at last.
  of_environment text default null,
  out up interval,
  out down interval,
  out unknown interval,
  -- In percent, of the whole period: if all unknown time was down, and if all of it was up. Null for an empty period.
  out at_least numeric,
  out at_most numeric
) language sql stable as $$
  with state as (
    select environment, valid_until from caretaker.health_states
    where check_name = '' and environment = coalesce(of_environment, environment)
    order by environment = 'production' desc, looked_at desc limit 1
  ), noted as (
    select coalesce(min(c.at), 'infinity') as since
    from state join caretaker.health_changes c on c.environment = state.environment and c.check_name = ''
  ), bounds as (
    select period_start as starts, least(period_end, now()) as ends
  ), history as (
    -- The change that still held when the period began, those within it, and the end of what the last look can say.
    (select c.at, c.status from state, bounds, caretaker.health_changes c
     where c.environment = state.environment and c.check_name = '' and c.at <= bounds.starts
     order by c.at desc limit 1)
    union all
    select c.at, c.status from state, bounds, caretaker.health_changes c
    where c.environment = state.environment and c.check_name = '' and c.at > bounds.starts and c.at < bounds.ends
    union all
    select state.valid_until, 'unknown' from state, bounds where state.valid_until < bounds.ends
  ), spans as (
    select h.status,
      least(coalesce(lead(h.at) over (order by h.at), 'infinity'), bounds.ends) - greatest(h.at, bounds.starts) as length
    from history h, bounds
  ), looks as (
    select r.finished_at as at, case r.result ->> 'status' when 'unhealthy' then 'down' else 'up' end as status,
           lead(r.finished_at) over (order by r.finished_at, r.slot) as next
    from caretaker.runs r, bounds
    where r.job = 'health' and r.state = 'done' and r.result ->> 'status' in ('healthy', 'degraded', 'unhealthy')
      -- A slot may be worked late: the day before holds every look that still counts at the start.
      and r.slot >= bounds.starts - interval '1 day' and r.slot <= bounds.ends
      and r.finished_at >= bounds.starts - valid_for and r.finished_at < bounds.ends
  ), all_spans as (
    select status, length from spans
    union all
    select looks.status,
      least(coalesce(looks.next, 'infinity'), looks.at + valid_for, bounds.ends, noted.since) - greatest(looks.at, bounds.starts)
    from looks, bounds, noted
  ), sums as (
    select coalesce(extract(epoch from sum(length) filter (where status = 'up')), 0) as up,
           coalesce(extract(epoch from sum(length) filter (where status = 'down')), 0) as down,
           coalesce(extract(epoch from sum(length) filter (where status = 'maintenance')), 0) as maintenance
    from all_spans where length > '0'
  ), totals as (
    select sums.up, sums.down, greatest(extract(epoch from bounds.ends - bounds.starts) - sums.maintenance, 0) as total from sums, bounds
  )
  select make_interval(secs => t.up::float8), make_interval(secs => t.down::float8),
         make_interval(secs => greatest(t.total - t.up - t.down, 0)::float8),
         case when t.total > 0 then trunc(100 * t.up / t.total, 3) end,
         case when t.total > 0 then trunc(100 * (t.total - t.down) / t.total, 3) end
  from totals t
$$;
do $$
begin
  -- Whoever may not read the history learns nothing from it: it runs as its caller.
  revoke all on function caretaker.uptime(timestamptz, timestamptz, interval, text) from public;
  if exists (select from pg_roles where rolname = 'service_role') then
    grant execute on function caretaker.uptime(timestamptz, timestamptz, interval, text) to service_role;
  end if;
end
$$;
