-- severity: warn
-- stream: bookings
-- says: Live bookings name customers whom the warehouse never had: legal where the customer was erased before the first load (the API keeps the link); many of them mean that customers are missing, so run a sweep of customers.
with unknown as (
    select participants.account_id, participants.booking_id, participants.customer_booking_id, participants.customer_id
    from core.booking_customers as participants
    -- Tombstones included: a customer who was erased after the first load is known here and no orphan.
    anti join core.customers as customers
        on customers.account_id = participants.account_id
        and customers.customer_id = participants.customer_id
    where participants.deleted_at is null
        and participants.customer_id is not null
)
-- Bookings are looked at for those few alone.
select unknown.*
from unknown
semi join (select account_id, booking_id from core.bookings where deleted_at is null) as bookings
    on bookings.account_id = unknown.account_id
    and bookings.booking_id = unknown.booking_id
