-- severity: block
-- stream: accounts, customers, bookings, events, generic
-- says: A second walk confirmed that the API counts other {stream} than it lists, so rows are missing: publishing is held back; run a sweep, and if the difference stays, correct the paging names in the contract file.
select stream, api_client, first_total, last_total, distinct_count, walks_count, slice_id, run_id
from ops.newest_reconciliations
where stream = '{stream}' and verdict = 'different'
