-- severity: warn
-- stream: events
-- says: An event ends before it starts, so its times cannot be trusted: correct it in Appointedd; if there are many, check the names of start_at and end_at in the contract file.
select account_id, event_id, start_at, end_at
from core.events
where deleted_at is null
    and end_at < start_at
