-- severity: warn
-- stream: customers, bookings, events, generic
-- says: Changes of {stream} arrived later than the nightly reaches back, so only a sweep or a wider reading found them: raise SYNC_OVERLAP_MINUTES as appointedd-warehouse status proposes, or sweep more often.
with configured as (
    select arg_max(overlap_minutes, number) as overlap_minutes
    from ops.runs
)
select late.account_id, sum(late.rows_count) as rows_count, round(max(late.longest_s) / 60, 1) as longest_minutes, any_value(configured.overlap_minutes) as overlap_minutes
from ops.late_arrivals as late
join ops.slices as slices using (slice_id, part_number)
cross join configured
-- What came long ago says little of how the API behaves today.
where late.stream = '{stream}'
    and slices.fetched_at > (select newest_at from ops.newest_reading) - interval 90 days
    and late.longest_s > configured.overlap_minutes * 60
group by late.account_id
