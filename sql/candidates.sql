-- Rows that a complete walk did not meet: live, of an account it served, and last written before it began.
select {key}
from core.{table} as stored
anti join met using ({key})
where stored.deleted_at is null
    and list_contains($account_ids, stored.account_id)
    and stored.fetched_at < $began_at
