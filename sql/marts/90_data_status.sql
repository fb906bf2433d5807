-- Grain: one row per account and stream (accounts, customers, bookings, events, those the contract adds), for every account that has a row or a window anywhere, deleted and frozen ones
-- too. Key: account_id, stream. The answer to "is this complete?". problems, published_at, quarantined_count and unsettled_count are not the account's own:
-- they stand for the whole run, file or stream and repeat on its rows.
-- Units: rows. Time zone: *_at is UTC, server time unless its comment says local clock; complete_through_on is a day in the account's reporting time zone.
create or replace view marts.data_status as
with streams as (
    select stream from (values ('accounts'), ('customers'), ('bookings'), ('events')) as listed (stream)
    union
    select stream from ops.windows
    union
    -- One that the contract has just added may not have been read to the end yet.
    select unnest(arg_max(streams, number)) from ops.runs
),
stored as (
    select 'accounts' as stream, account_id, count(*) - count(deleted_at) as rows_count, count(deleted_at) as tombstones_count
    from core.accounts
    group by account_id
    union all
    select 'customers', account_id, count(*) - count(deleted_at), count(deleted_at)
    from core.customers
    group by account_id
    union all
    select 'bookings', account_id, count(*) - count(deleted_at), count(deleted_at)
    from core.bookings
    group by account_id
    union all
    select 'events', account_id, count(*) - count(deleted_at), count(deleted_at)
    from core.events
    group by account_id
    union all
    select stream, account_id, count(*) - count(deleted_at), count(deleted_at)
    from ops.generic_rows
    group by stream, account_id
),
known as (
    select account_id from stored
    union
    select account_id from ops.windows
),
sweeps as (
    select stream, account_id, max(until) as last_sweep_at
    from ops.windows
    where kind = 'sweep'
    group by stream, account_id
),
slices as (
    select slices.stream, unnest(slices.account_ids) as account_id, slices.run_id, runs.number
    from ops.slices as slices
    join ops.runs as runs using (run_id)
),
committed as (
    select stream, account_id, arg_max(run_id, number) as run_id
    from slices
    group by stream, account_id
),
quarantined as (
    select stream, count(*) as quarantined_count
    from ops.quarantine
    group by stream
),
unsettled as (
    select stream, count(*) as unsettled_count
    from ops.newest_reconciliations
    where verdict = 'unsettled'
    group by stream
),
-- The worst of all API clients; a list of one account alone counts for that account before the whole.
compared as (
    select
        stream,
        account_id,
        case
            when bool_or(verdict = 'different') then 'different'
            when bool_or(verdict = 'unsettled') then 'unsettled'
            else 'settled'
        end as verdict
    from ops.newest_reconciliations
    -- A list that was walked twice has a row of evidence also where no total came.
    where last_total is not null
    group by stream, account_id
),
held_back as (
    select stream, account_id, max(gone_count) as held_back_count
    from ops.brakes
    where ended_by_slice_id is null
    group by stream, account_id
),
newest_run as (
    select problems
    from ops.runs
    order by number desc
    limit 1
)
select
    known.account_id,
    accounts.account_name,
    streams.stream,
    watermarks.watermark_at as complete_until_at,
    cast(timezone(coalesce(accounts.reporting_time_zone, 'UTC'), watermarks.watermark_at) as date) - 1 as complete_through_on,
    coalesce(watermarks.has_gap, false) as has_gap,
    coalesce(stored.rows_count, 0) as rows_count,
    coalesce(stored.tombstones_count, 0) as tombstones_count,
    committed.run_id as last_run_id,
    runs.kind as last_run_kind,
    runs.status as last_run_status,
    runs.ended_at as last_run_ended_at,
    sweeps.last_sweep_at,
    visible.account_id is not null as is_visible,
    coalesce(accounts.is_zone_assumed, true) as is_zone_assumed,
    (select max(published_at) from ops.publications) as published_at,
    coalesce((select problems from newest_run), cast([] as varchar[])) as problems,
    coalesce(quarantined.quarantined_count, 0) as quarantined_count,
    coalesce(unsettled.unsettled_count, 0) as unsettled_count,
    coalesce(held_back.held_back_count, 0) as held_back_count,
    coalesce(own_total.verdict, whole_total.verdict) as totals_verdict
from known
cross join streams
left join marts.accounts as accounts on accounts.account_id = known.account_id
left join stored on stored.account_id = known.account_id and stored.stream = streams.stream
left join ops.watermarks as watermarks on watermarks.account_id = known.account_id and watermarks.stream = streams.stream
left join committed on committed.account_id = known.account_id and committed.stream = streams.stream
left join ops.runs as runs on runs.run_id = committed.run_id
left join sweeps on sweeps.account_id = known.account_id and sweeps.stream = streams.stream
left join ops.visible_accounts as visible on visible.account_id = known.account_id
left join quarantined on quarantined.stream = streams.stream
left join unsettled on unsettled.stream = streams.stream
left join held_back on held_back.account_id = known.account_id and held_back.stream = streams.stream
left join compared as own_total on own_total.account_id = known.account_id and own_total.stream = streams.stream
left join compared as whole_total on whole_total.account_id is null and whole_total.stream = streams.stream;

comment on view marts.data_status is 'Is it complete? One row per account and stream, frozen, deleted and new accounts too. Key: account_id, stream. Times in UTC.';
comment on column marts.data_status.account_id is 'Account.';
comment on column marts.data_status.account_name is 'Account name as it is now, null where the account was never listed. Two accounts may have the same: group by account_id.';
comment on column marts.data_status.stream is 'accounts, customers, bookings, events, or one that the contract adds.';
comment on column marts.data_status.complete_until_at is 'Every change before this instant (server time, UTC) is in the warehouse; null while the oldest history is still missing. Rows may be newer.';
comment on column marts.data_status.complete_through_on is 'Last whole local day whose changes are all in the warehouse; null where complete_until_at is.';
comment on column marts.data_status.has_gap is 'Whether a stretch of time before the newest reading is missing.';
comment on column marts.data_status.rows_count is 'Live rows.';
comment on column marts.data_status.tombstones_count is 'Rows kept as deleted.';
comment on column marts.data_status.last_run_id is 'Run that last committed a slice of this stream for this account: ops.runs.';
comment on column marts.data_status.last_run_kind is 'Kind of that run: nightly, sweep, backfill or renormalise.';
comment on column marts.data_status.last_run_status is 'Status of that run: running, green (complete) or red (something may be missing; see problems).';
comment on column marts.data_status.last_run_ended_at is 'End of that run by the local clock (UTC); null while it runs, or if it was killed.';
comment on column marts.data_status.last_sweep_at is 'Server time up to which the last complete sweep counts (UTC): deletions before it are known. Null: never swept.';
comment on column marts.data_status.is_visible is 'Whether the newest account list of an API client has the account; false: frozen, its rows stay as they are until it returns.';
comment on column marts.data_status.is_zone_assumed is 'Whether the account''s reporting time zone is only assumed; then local days may be wrong.';
comment on column marts.data_status.published_at is 'When this file was published, by the local clock (UTC); null in a working file that never was.';
comment on column marts.data_status.problems is 'Sentences that made the newest run red, whatever account they concern; empty for a green one.';
comment on column marts.data_status.quarantined_count is 'Records of the stream, of all accounts and times, that could not become a row: ops.quarantine.';
comment on column marts.data_status.unsettled_count is 'API clients whose newest reconciliation of the stream is unsettled: its end could not be proved.';
comment on column marts.data_status.held_back_count is 'Rows that the last sweep of the account would have called deleted and did not, because they were too many: ops.brakes.';
comment on column marts.data_status.totals_verdict is 'What the API''s own totals proved at the newest walk: settled (equal to what was read), unsettled (they moved), different (rows are missing). Null: the API gives none.';
