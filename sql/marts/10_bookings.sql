-- Grain: one row per live booking, empty and cancelled ones too. Key: account_id, booking_id.
-- Units: minutes; money in major units of the account's currency, which the API does not send: never add amounts of different accounts.
-- Time zone: *_at is UTC, except start_local_at; *_on and start_local_at are in the account's reporting_time_zone, not the customer's.
create or replace view marts.bookings as
with participants as (
    select
        account_id,
        booking_id,
        count(*) filter (where status is distinct from 'cancelled') as participants_count,
        count(*) filter (where status = 'cancelled') as cancelled_participants_count,
        count(*) filter (where status = 'arrived') as arrived_count,
        count(*) filter (where status = 'no_show') as no_show_count,
        count(*) filter (where status = 'complete') as complete_count,
        count(*) filter (where status = 'none') as unmarked_count,
        sum(spaces_count) filter (where status is distinct from 'cancelled') as spaces_count,
        sum(paid_online_amount) as paid_online_amount
    from core.booking_customers
    where deleted_at is null
    group by account_id, booking_id
),
resources as (
    select account_id, booking_id, count(*) as resources_count
    from core.booking_resources
    where deleted_at is null
    group by account_id, booking_id
),
watermarks as (
    select account_id, watermark_at
    from ops.watermarks
    where stream = 'bookings'
),
placed as (
    select
        bookings.*,
        accounts.account_name,
        accounts.account_slug,
        coalesce(accounts.reporting_time_zone, 'UTC') as reporting_time_zone,
        coalesce(accounts.is_zone_assumed, true) as is_zone_assumed,
        -- The data's own clock, not the reader's: what ended after the last reading may have been marked since.
        greatest(bookings.fetched_at, watermarks.watermark_at) as known_at
    from core.bookings as bookings
    left join marts.accounts as accounts using (account_id)
    left join watermarks using (account_id)
    where bookings.deleted_at is null
),
localised as (
    select
        placed.*,
        coalesce(
            make_timestamp(epoch_us(placed.start_at) + 1000000 * starts.utc_offset_s),
            timezone(placed.reporting_time_zone, placed.start_at)
        ) as start_local_at,
        coalesce(
            make_timestamp(epoch_us(placed.created_at) + 1000000 * creations.utc_offset_s),
            timezone(placed.reporting_time_zone, placed.created_at)
        ) as created_local_at
    from placed
    left join marts.utc_offsets as starts
        on starts.account_id = placed.account_id
        and starts.utc_on = cast(make_timestamp(epoch_us(placed.start_at)) as date)
    left join marts.utc_offsets as creations
        on creations.account_id = placed.account_id
        and creations.utc_on = cast(make_timestamp(epoch_us(placed.created_at)) as date)
)
select
    localised.account_id,
    localised.account_name,
    localised.account_slug,
    localised.booking_id,
    localised.event_id,
    localised.service_id,
    localised.service_name,
    localised.status,
    localised.status_raw,
    localised.status is not distinct from 'cancelled' as is_cancelled,
    localised.start_at,
    localised.end_at,
    localised.reporting_time_zone,
    localised.is_zone_assumed,
    localised.start_local_at,
    cast(localised.start_local_at as date) as start_on,
    cast(localised.created_local_at as date) as created_on,
    coalesce(localised.end_at, localised.start_at) <= localised.known_at as is_past,
    (epoch_ms(localised.end_at) - epoch_ms(localised.start_at)) // 60000 as duration_minutes,
    (epoch_ms(localised.start_at) - epoch_ms(localised.created_at)) // 60000 as lead_time_minutes,
    localised.price,
    localised.max_occupancy_count,
    coalesce(participants.participants_count, 0) as participants_count,
    coalesce(participants.cancelled_participants_count, 0) as cancelled_participants_count,
    cast(case when participants.participants_count > 0 then participants.spaces_count else 0 end as bigint) as spaces_count,
    coalesce(participants.arrived_count, 0) as arrived_count,
    coalesce(participants.no_show_count, 0) as no_show_count,
    coalesce(participants.complete_count, 0) as complete_count,
    coalesce(participants.unmarked_count, 0) as unmarked_count,
    participants.paid_online_amount,
    coalesce(resources.resources_count, 0) as resources_count,
    localised.created_source,
    localised.last_modified_source,
    localised.created_source = 'appointment_screen' as is_internal,
    localised.created_at,
    localised.updated_at
from localised
left join participants
    on participants.account_id = localised.account_id
    and participants.booking_id = localised.booking_id
left join resources
    on resources.account_id = localised.account_id
    and resources.booking_id = localised.booking_id;

comment on view marts.bookings is 'One row per live booking, empty and cancelled ones too. Key: account_id, booking_id. Local days in the account''s zone; amounts in major units, no currency known: never add those of different accounts. Filtered by account_id it answers sooner than by name.';
comment on column marts.bookings.account_id is 'Account the booking belongs to.';
comment on column marts.bookings.account_name is 'Account name as it is now, null where the account was never listed. Two accounts may have the same: group by account_id.';
comment on column marts.bookings.account_slug is 'Account slug; null where the account was never listed.';
comment on column marts.bookings.booking_id is 'Booking id; unique within the account.';
comment on column marts.bookings.event_id is 'Event the booking belongs to, if any: marts.events, which lacks deleted ones.';
comment on column marts.bookings.service_id is 'Booked service.';
comment on column marts.bookings.service_name is 'Name of the booked service, where the API sends it.';
comment on column marts.bookings.status is 'confirmed or cancelled; an unknown status stands as sent.';
comment on column marts.bookings.status_raw is 'Status exactly as sent.';
comment on column marts.bookings.is_cancelled is 'Whether the whole booking is cancelled; false for an unknown or missing status. Its participants usually still stand as unmarked.';
comment on column marts.bookings.start_at is 'Start without buffers (UTC).';
comment on column marts.bookings.end_at is 'End without buffers (UTC).';
comment on column marts.bookings.reporting_time_zone is 'IANA time zone of start_local_at, start_on and created_on: the account''s.';
comment on column marts.bookings.is_zone_assumed is 'Whether that zone is only assumed; then local days may be wrong.';
comment on column marts.bookings.start_local_at is 'Start on the clocks of the account: a local time without a zone, so the hour that repeats in autumn stands twice.';
comment on column marts.bookings.start_on is 'Local day of the start: the day the booking occurs.';
comment on column marts.bookings.created_on is 'Local day on which the booking was made; null where the API sends no creation time.';
comment on column marts.bookings.is_past is 'Whether it had ended when the data was read (watermark or reading of the row, whichever is later), not when the query runs; null without times.';
comment on column marts.bookings.duration_minutes is 'End less start without buffers, in whole minutes.';
comment on column marts.bookings.lead_time_minutes is 'Start less creation, in whole minutes; negative for a booking entered after it began.';
comment on column marts.bookings.price is 'Booking price in major units; no currency is known, so never add prices of different accounts.';
comment on column marts.bookings.max_occupancy_count is 'Capacity in places.';
comment on column marts.bookings.participants_count is 'Customers on the booking, without those who cancelled or were removed; on a cancelled booking those it still lists.';
comment on column marts.bookings.cancelled_participants_count is 'Customers whose own participation is cancelled.';
comment on column marts.bookings.spaces_count is 'Places taken by the participants who did not cancel; 0 for an empty booking, null where the API sends no places.';
comment on column marts.bookings.arrived_count is 'Participants marked as arrived.';
comment on column marts.bookings.no_show_count is 'Participants marked as no-show; can be forgiven, that is lowered, months later.';
comment on column marts.bookings.complete_count is 'Participants marked as complete.';
comment on column marts.bookings.unmarked_count is 'Participants whom nobody marked (status none), of past and future bookings alike.';
comment on column marts.bookings.paid_online_amount is 'Amounts paid online by the listed participants, cancelled ones too, in major units; null where none is stated.';
comment on column marts.bookings.resources_count is 'Bookable resources (staff, rooms) on the booking.';
comment on column marts.bookings.created_source is 'Channel that created the booking; an open set.';
comment on column marts.bookings.last_modified_source is 'Channel of the last change; an open set.';
comment on column marts.bookings.is_internal is 'Whether the team made the booking: created_source is appointment_screen. INFERRED, not documented by Appointedd. Null where no source is sent.';
comment on column marts.bookings.created_at is 'When the API says the booking was created (UTC); null where it sends none.';
comment on column marts.bookings.updated_at is 'When the API says the booking last changed (UTC); null where it sends none.';
