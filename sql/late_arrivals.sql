-- Changes of some parts (the temporary table `change`) that arrived below the watermark that their account had before it: each needed that much overlap.
insert into ops.late_arrivals
select
    change.slice_id, any_value(parts.part_number), $stream, change.account_id, count(*), max(epoch(watermarks.watermark_at) - epoch(change.updated_at))
from change
join (select unnest($slice_ids::VARCHAR[]) as slice_id, unnest($part_numbers::INTEGER[]) as part_number) as parts using (slice_id)
join ops.watermarks as watermarks on watermarks.stream = $stream and watermarks.account_id = change.account_id
where change.action in ('insert', 'update')
    -- What changed under an unchanged change time is silent, not late: no overlap would have brought it.
    and not change.is_same_version
    and not change.is_back
    and change.updated_at < watermarks.watermark_at
    -- What is older came another way: it was moved, restored, or is seen for the first time.
    and change.updated_at > watermarks.watermark_at - interval 30 days
group by change.slice_id, change.account_id
