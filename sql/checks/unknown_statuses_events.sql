-- severity: warn
-- stream: events
-- says: Events carry a status that the contract does not know and count as not cancelled: add the spelling to statuses.booking in the contract file.
select account_id, status, count(*) as events_count, min(event_id) as example_event_id
from core.events
where deleted_at is null
    -- No status at all is not reported: whether events have one is not known (docs/appointedd-api.md, G20).
    and status not in ('confirmed', 'cancelled')
group by account_id, status
