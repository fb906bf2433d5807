-- Grain: one row per customer on a live booking (participation), cancelled ones too, without those who were removed from it. Key: account_id, booking_id, customer_booking_id.
-- Units: places; money in major units of the account's currency, which the API does not send: never add amounts of different accounts.
-- Time zone: *_at is UTC, except start_local_at; start_on and start_local_at are in the account's reporting_time_zone, not the customer's.
create or replace view marts.booking_customers as
select
    participants.account_id,
    bookings.account_name,
    participants.booking_id,
    participants.customer_booking_id,
    participants.customer_id,
    bookings.event_id,
    bookings.service_id,
    bookings.service_name,
    participants.status,
    participants.status_raw,
    bookings.is_cancelled as is_booking_cancelled,
    bookings.is_cancelled or participants.status is not distinct from 'cancelled' as is_cancelled,
    bookings.start_at,
    bookings.reporting_time_zone,
    bookings.is_zone_assumed,
    bookings.start_local_at,
    bookings.start_on,
    bookings.is_past,
    participants.spaces_count,
    participants.total_price,
    participants.is_paid,
    participants.paid_online_amount,
    participants.booking_source,
    participants.locale,
    participants.created_at,
    participants.updated_at
from core.booking_customers as participants
join marts.bookings as bookings
    on bookings.account_id = participants.account_id
    and bookings.booking_id = participants.booking_id
where participants.deleted_at is null;

comment on view marts.booking_customers is 'Who is on which booking: one row per customer on a live booking, cancelled ones too, without those who were removed. Key: account_id, booking_id, customer_booking_id. What belongs to the booking repeats for each of its customers. Amounts in major units, no currency known: never add those of different accounts.';
comment on column marts.booking_customers.account_id is 'Account the booking belongs to.';
comment on column marts.booking_customers.account_name is 'Account name as it is now, null where the account was never listed. Two accounts may have the same: group by account_id.';
comment on column marts.booking_customers.booking_id is 'Booking: marts.bookings. With several customers it stands in several rows: count distinct account_id, booking_id for bookings.';
comment on column marts.booking_customers.customer_booking_id is 'Participation id; unique within the booking.';
comment on column marts.booking_customers.customer_id is 'Customer: marts.customers, which lacks deleted ones, so join it from the left. The same customer may stand on a booking twice.';
comment on column marts.booking_customers.event_id is 'Event the booking belongs to, if any: marts.events, which lacks deleted ones.';
comment on column marts.booking_customers.service_id is 'Booked service.';
comment on column marts.booking_customers.service_name is 'Name of the booked service, where the API sends it.';
comment on column marts.booking_customers.status is 'none (nobody marked it), arrived, no_show, complete or cancelled; an unknown status stands as sent. Usually none still where the whole booking is cancelled.';
comment on column marts.booking_customers.status_raw is 'Status exactly as sent.';
comment on column marts.booking_customers.is_booking_cancelled is 'Whether the whole booking is cancelled.';
comment on column marts.booking_customers.is_cancelled is 'Whether the participation is cancelled, alone or with its booking; false for an unknown or missing status.';
comment on column marts.booking_customers.start_at is 'Start of the booking without buffers (UTC).';
comment on column marts.booking_customers.reporting_time_zone is 'IANA time zone of start_local_at and start_on: the account''s.';
comment on column marts.booking_customers.is_zone_assumed is 'Whether that zone is only assumed; then local days may be wrong.';
comment on column marts.booking_customers.start_local_at is 'Start of the booking on the clocks of the account: a local time without a zone.';
comment on column marts.booking_customers.start_on is 'Local day of the start: the day the booking occurs.';
comment on column marts.booking_customers.is_past is 'Whether the booking had ended when the data was read, as in marts.bookings.';
comment on column marts.booking_customers.spaces_count is 'Places taken by this customer; null where the API sends none.';
comment on column marts.booking_customers.total_price is 'Price for this customer in major units; no currency is known, so never add prices of different accounts.';
comment on column marts.booking_customers.is_paid is 'Whether the API calls the participation paid; null where it does not say.';
comment on column marts.booking_customers.paid_online_amount is 'Amount paid online in major units; a deposit may be less than the price.';
comment on column marts.booking_customers.booking_source is 'Channel through which this customer booked; an open set.';
comment on column marts.booking_customers.locale is 'Language of the customer, where sent.';
comment on column marts.booking_customers.created_at is 'When the API says the participation was created (UTC); null where it sends none.';
comment on column marts.booking_customers.updated_at is 'When the API says the participation last changed (UTC); null where it sends none.';
