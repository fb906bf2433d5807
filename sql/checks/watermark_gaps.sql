-- severity: warn
-- stream: customers, bookings, events, generic
-- says: A stretch of the {stream} of the account has never been read, so marts may lack rows of it: let the nightly run, which asks for the gap, and if the gap stays, read the problems of the last run.
select visible.account_id, accounts.name as account_name, watermarks.watermark_at, watermarks.highest_window_at
from ops.visible_accounts as visible
left join core.accounts as accounts using (account_id)
left join ops.watermarks as watermarks
    on watermarks.account_id = visible.account_id
    and watermarks.stream = '{stream}'
where (watermarks.watermark_at is null or watermarks.has_gap)
    -- A stream that the contract has switched off is not behind.
    and coalesce(list_contains((select arg_max(streams, number) from ops.runs), '{stream}'), true)
