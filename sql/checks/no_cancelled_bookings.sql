-- severity: warn
-- stream: bookings
-- says: The account has many bookings and not one that is cancelled, so the API's default list may leave them out (evidence G22): add the query for cancelled ones to streams.bookings.queries in the contract file, then run a sweep.
select account_id, count(*) as bookings_count
from core.bookings
where deleted_at is null
group by account_id
having count(*) >= 500 and count(*) filter (where status = 'cancelled') = 0
