-- Grain: one row per bookable resource (staff, room) on a live booking, cancelled bookings too. Key: account_id, booking_id, resource_id.
-- Units: minutes. Time zone: *_at is UTC, except start_local_at; start_on and start_local_at are in the account's reporting_time_zone.
create or replace view marts.booking_resources as
select
    resources.account_id,
    bookings.account_name,
    resources.booking_id,
    resources.resource_id,
    resources.resource_name,
    bookings.service_id,
    bookings.service_name,
    bookings.is_cancelled,
    bookings.start_at,
    bookings.end_at,
    bookings.reporting_time_zone,
    bookings.is_zone_assumed,
    bookings.start_local_at,
    bookings.start_on,
    bookings.is_past,
    bookings.duration_minutes,
    bookings.participants_count
from core.booking_resources as resources
join marts.bookings as bookings
    on bookings.account_id = resources.account_id
    and bookings.booking_id = resources.booking_id
where resources.deleted_at is null;

comment on view marts.booking_resources is 'Which staff and rooms are on which booking: one row per bookable resource on a live booking, cancelled bookings too. Key: account_id, booking_id, resource_id. What belongs to the booking repeats for each of its resources.';
comment on column marts.booking_resources.account_id is 'Account the booking belongs to.';
comment on column marts.booking_resources.account_name is 'Account name as it is now, null where the account was never listed. Two accounts may have the same: group by account_id.';
comment on column marts.booking_resources.booking_id is 'Booking: marts.bookings. With several resources it stands in several rows, and without any in none.';
comment on column marts.booking_resources.resource_id is 'Bookable resource id.';
comment on column marts.booking_resources.resource_name is 'Name of the bookable resource, where the API sends it.';
comment on column marts.booking_resources.service_id is 'Booked service.';
comment on column marts.booking_resources.service_name is 'Name of the booked service, where the API sends it.';
comment on column marts.booking_resources.is_cancelled is 'Whether the booking is cancelled; false for an unknown or missing status.';
comment on column marts.booking_resources.start_at is 'Start of the booking without buffers (UTC).';
comment on column marts.booking_resources.end_at is 'End of the booking without buffers (UTC).';
comment on column marts.booking_resources.reporting_time_zone is 'IANA time zone of start_local_at and start_on: the account''s.';
comment on column marts.booking_resources.is_zone_assumed is 'Whether that zone is only assumed; then local days may be wrong.';
comment on column marts.booking_resources.start_local_at is 'Start of the booking on the clocks of the account: a local time without a zone.';
comment on column marts.booking_resources.start_on is 'Local day of the start: the day the booking occurs.';
comment on column marts.booking_resources.is_past is 'Whether the booking had ended when the data was read, as in marts.bookings.';
comment on column marts.booking_resources.duration_minutes is 'Minutes of the booking without buffers, whole for each of its resources: add them up by resource, not by account.';
comment on column marts.booking_resources.participants_count is 'Customers on the booking, as in marts.bookings.';
