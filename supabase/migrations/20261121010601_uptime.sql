-- How long the app was up in a period, by the runs of the health job. Each says how things stand from when it ended until
-- the next one, but for no longer than `valid_for`: time that nobody looked at is neither up nor down, so the share is
-- a pair of bounds. Degraded (something that is not critical fails) is up. What is still to come is not counted.
create function caretaker.uptime(
  period_start timestamptz,
  period_end timestamptz,
  valid_for interval default interval '10 minutes',
  out up interval,
  out down interval,
  out unknown interval,
  -- In percent, of the whole period: if all unknown time was down, and if all of it was up. Null for an empty period.
  out at_least numeric,
  out at_most numeric
) language sql stable as $$
  with bounds as (
    select period_start as starts, least(period_end, now()) as ends
  ), looks as (
    select r.finished_at as at, r.result ->> 'status' as status,
           lead(r.finished_at) over (order by r.finished_at, r.slot) as next
    from caretaker.runs r, bounds
    where r.job = 'health' and r.state = 'done' and r.result ->> 'status' in ('healthy', 'degraded', 'unhealthy')
      -- A slot may be worked late: the day before holds every look that still counts at the start.
      and r.slot >= bounds.starts - interval '1 day' and r.slot <= bounds.ends
      and r.finished_at >= bounds.starts - valid_for and r.finished_at < bounds.ends
  ), spans as (
    select status, least(coalesce(next, 'infinity'), at + valid_for, bounds.ends) - greatest(at, bounds.starts) as length
    from looks, bounds
  ), sums as (
    select coalesce(extract(epoch from sum(length) filter (where status <> 'unhealthy' and length > '0')), 0) as up,
           coalesce(extract(epoch from sum(length) filter (where status = 'unhealthy' and length > '0')), 0) as down
    from spans
  ), totals as (
    select sums.up, sums.down, greatest(extract(epoch from bounds.ends - bounds.starts), 0) as total from sums, bounds
  )
  select make_interval(secs => t.up::float8), make_interval(secs => t.down::float8),
         make_interval(secs => greatest(t.total - t.up - t.down, 0)::float8),
         case when t.total > 0 then trunc(100 * t.up / t.total, 3) end,
         case when t.total > 0 then trunc(100 * (t.total - t.down) / t.total, 3) end
  from totals t
$$;
do $$
begin
  -- Whoever may not read the runs learns nothing from it: it runs as its caller.
  revoke all on function caretaker.uptime(timestamptz, timestamptz, interval) from public;
  if exists (select from pg_roles where rolname = 'service_role') then
    grant execute on function caretaker.uptime(timestamptz, timestamptz, interval) to service_role;
  end if;
end
$$;
