-- severity: warn
-- stream: customers, bookings, events, generic
-- says: The {stream} of the account lag more than SYNC_FRESHNESS_HOURS behind the last run, so marts show an old state of it: read the problems of the last run, and run the nightly again.
with configured as (
    select arg_max(freshness_hours, number) as freshness_hours
    from ops.runs
),
listed as (
    select max(until) as listed_at
    from ops.windows
    where stream = 'accounts'
)
select
    visible.account_id,
    accounts.name as account_name,
    watermarks.watermark_at,
    round((epoch(listed.listed_at) - epoch(watermarks.watermark_at)) / 3600, 1) as age_hours
from ops.visible_accounts as visible
cross join configured
cross join listed
left join core.accounts as accounts using (account_id)
-- An account without a watermark is told by watermark_gaps.
join ops.watermarks as watermarks
    on watermarks.account_id = visible.account_id
    and watermarks.stream = '{stream}'
-- Measured against the last run's own reading of the server's clock: a local clock is never used for completeness.
where epoch(listed.listed_at) - epoch(watermarks.watermark_at) > configured.freshness_hours * 3600
    -- A stream that the contract has switched off is not behind.
    and coalesce(list_contains((select arg_max(streams, number) from ops.runs), '{stream}'), true)
