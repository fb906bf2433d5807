-- severity: warn
-- stream: bookings
-- says: A booking ends before it starts, so its minutes are negative: correct it in Appointedd; if there are many, check the names of start_at and end_at in the contract file.
select account_id, booking_id, start_at, end_at
from core.bookings
where deleted_at is null
    and end_at < start_at
