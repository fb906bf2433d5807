-- severity: warn
-- stream: bookings
-- says: Bookings carry a status that the contract does not know, or none, and count as not cancelled: add the spelling to statuses.booking in the contract file.
select account_id, status, count(*) as bookings_count, min(booking_id) as example_booking_id
from core.bookings
where deleted_at is null
    and (status is null or status not in ('confirmed', 'cancelled'))
group by account_id, status
