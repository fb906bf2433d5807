-- One brake stands for each stream and account, the newest: a sweep that stops again ends the one before it, so that a release is a release for all who read.
update ops.brakes as earlier
set ended_by_slice_id = ranked.newest_slice_id
from (
    select
        stream,
        account_id,
        slice_id,
        row_number() over by_age as place,
        first_value(slice_id) over by_age as newest_slice_id
    from ops.brakes
    where ended_by_slice_id is null
    window by_age as (partition by stream, account_id order by stopped_at desc, slice_id desc)
) as ranked
where ranked.place > 1
    and earlier.ended_by_slice_id is null
    and earlier.stream = ranked.stream
    and earlier.account_id = ranked.account_id
    and earlier.slice_id = ranked.slice_id;
comment on column ops.brakes.ended_by_slice_id is 'Later sweep of the account, whether it ended or stopped again; null while the brake stands, which is one at most for each stream and account.';
