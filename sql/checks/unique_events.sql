-- severity: block
-- stream: events
-- says: The event stands more than once in core.events, or without a key, so every count is wrong: publishing is held back; keep the last published file and report it as a fault of the merge.
select account_id, event_id, count(*) as rows_count
from core.events
group by account_id, event_id
having count(*) > 1 or account_id is null or event_id is null
