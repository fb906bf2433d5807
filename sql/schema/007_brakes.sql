-- One brake stands for each stream and account, the newest: a sweep that stops again ends the one before it, so that a release is a release for all who read.
update ops.brakes as earlier
set ended_by_slice_id = newest.slice_id
from (
    select stream, account_id, max(stopped_at) as stopped_at, arg_max(slice_id, stopped_at) as slice_id
    from ops.brakes
    where ended_by_slice_id is null
    group by stream, account_id
) as newest
where earlier.ended_by_slice_id is null
    and earlier.stream = newest.stream
    and earlier.account_id = newest.account_id
    and earlier.stopped_at < newest.stopped_at;
comment on column ops.brakes.ended_by_slice_id is 'Later sweep of the account, whether it ended or stopped again; null while the brake stands, which is one at most for each stream and account.';
