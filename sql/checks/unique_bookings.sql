-- severity: block
-- stream: bookings
-- says: The booking stands more than once in core.bookings, or without a key, so every count is wrong: publishing is held back; keep the last published file and report it as a fault of the merge.
select account_id, booking_id, count(*) as rows_count
from core.bookings
group by account_id, booking_id
having count(*) > 1 or account_id is null or booking_id is null
