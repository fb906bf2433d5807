-- severity: warn
-- stream: bookings
-- says: Bookings belong to an account that no API client ever listed, so they have no name, no zone and no watermark: grant an API client that account, or correct account_reference in the contract file.
select bookings.account_id, count(*) as bookings_count, min(bookings.booking_id) as example_booking_id
from core.bookings as bookings
anti join core.accounts as accounts using (account_id)
where bookings.deleted_at is null
group by bookings.account_id
