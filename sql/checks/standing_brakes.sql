-- severity: warn
-- stream: customers, bookings, events, generic
-- says: A sweep would have called more {stream} of the account deleted than SYNC_BRAKE_SHARE and SYNC_BRAKE_COUNT let pass, so it changed nothing there: if they are really gone, run appointedd-warehouse release with the account and --stream {stream}, then a sweep.
select brakes.account_id, accounts.name as account_name, brakes.gone_count, brakes.rows_count, brakes.stopped_at, brakes.released_at
from ops.brakes as brakes
-- A brake of an account that nobody lists any more waits for its return, and frozen_accounts tells of it.
semi join ops.visible_accounts as visible on visible.account_id = brakes.account_id
left join core.accounts as accounts using (account_id)
where brakes.stream = '{stream}' and brakes.ended_by_slice_id is null and brakes.released_at is null
    -- Nobody reads a stream that the contract has switched off.
    and coalesce(list_contains((select arg_max(streams, number) from ops.runs), '{stream}'), true)
