-- severity: warn
-- stream: accounts, customers, bookings, events, generic
-- says: The newest complete walk of {stream} could not be proved complete, because the totals moved while it was read: nothing is known to be missing; the next sweep usually settles it, best at a quiet hour.
select stream, api_client, first_total, last_total, distinct_count, walks_count, slice_id, run_id
from ops.newest_reconciliations
where stream = '{stream}' and verdict = 'unsettled'
