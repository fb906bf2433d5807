-- severity: warn
-- stream: accounts, customers, bookings, events, generic
-- says: Records of {stream} arrive otherwise than the contract says, so a column may be empty or a new member unused: correct the names in the contract file, then run appointedd-warehouse renormalise; what was sent is in document.
with read as (
    select min(slices.fetched_at) as first_at, max(slices.fetched_at) as newest_at, arg_max(slices.run_id, runs.number) as run_id
    from ops.slices as slices
    join ops.runs as runs using (run_id)
    where slices.stream = '{stream}'
),
newest as (
    select min(slices.fetched_at) as began_at
    from ops.slices as slices
    join read using (run_id)
    where slices.stream = '{stream}'
)
select drift.kind, drift.path, drift.detail, drift.seen_count, drift.example_record_id
from ops.drift as drift
cross join read
cross join newest
where drift.stream = '{stream}'
    -- Nobody reads a stream that the contract has switched off.
    and coalesce(list_contains((select arg_max(streams, number) from ops.runs), '{stream}'), true)
    and (
        (drift.kind not in ('unknown_member', 'media_type') and drift.last_seen_at >= newest.began_at)
        -- What loses nothing, a member that maps to no column or another media type, is news for a week, and none where it was so from the first load on.
        or (
            drift.kind in ('unknown_member', 'media_type')
            and drift.first_seen_at > read.first_at + interval 1 day
            and drift.first_seen_at > read.newest_at - interval 7 days
        )
    )
