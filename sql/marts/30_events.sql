-- Grain: one row per live event: by working assumption a scheduled group session that people book into (docs/appointedd-api.md, 1.3). Key: account_id, event_id.
-- Units: places; fill_ratio is a share, 1.0 is full.
-- Time zone: *_at is UTC, except *_local_at; *_local_at and start_on are in the account's reporting_time_zone, not the event's own.
create or replace view marts.events as
with participants as (
    select
        participants.account_id,
        participants.booking_id,
        count(*) filter (where participants.status is distinct from 'cancelled') as participants_count,
        sum(participants.spaces_count) filter (where participants.status is distinct from 'cancelled') as spaces_count
    from core.booking_customers as participants
    join core.bookings as bookings
        on bookings.account_id = participants.account_id
        and bookings.booking_id = participants.booking_id
    where participants.deleted_at is null
        and bookings.deleted_at is null
        and bookings.event_id is not null
    group by participants.account_id, participants.booking_id
),
sessions as (
    select
        bookings.account_id,
        bookings.event_id,
        bookings.status is not distinct from 'cancelled' as is_cancelled,
        participants.participants_count,
        case when participants.participants_count > 0 then participants.spaces_count else 0 end as spaces_count
    from core.bookings as bookings
    left join participants
        on participants.account_id = bookings.account_id
        and participants.booking_id = bookings.booking_id
    where bookings.deleted_at is null
        and bookings.event_id is not null
),
booked as (
    select
        account_id,
        event_id,
        count(*) filter (where not is_cancelled) as bookings_count,
        count(*) filter (where is_cancelled) as cancelled_bookings_count,
        sum(participants_count) filter (where not is_cancelled) as participants_count,
        sum(spaces_count) filter (where not is_cancelled) as booked_spaces_count
    from sessions
    group by account_id, event_id
)
select
    events.account_id,
    accounts.account_name,
    accounts.account_slug,
    events.event_id,
    events.service_id,
    events.title,
    events.start_at,
    events.end_at,
    coalesce(accounts.reporting_time_zone, 'UTC') as reporting_time_zone,
    coalesce(accounts.is_zone_assumed, true) as is_zone_assumed,
    timezone(coalesce(accounts.reporting_time_zone, 'UTC'), events.start_at) as start_local_at,
    timezone(coalesce(accounts.reporting_time_zone, 'UTC'), events.end_at) as end_local_at,
    cast(timezone(coalesce(accounts.reporting_time_zone, 'UTC'), events.start_at) as date) as start_on,
    events.status,
    events.status_raw,
    events.status is not distinct from 'cancelled' as is_cancelled,
    events.capacity_count,
    events.spaces_taken_count,
    coalesce(booked.bookings_count, 0) as bookings_count,
    coalesce(booked.cancelled_bookings_count, 0) as cancelled_bookings_count,
    cast(coalesce(booked.participants_count, 0) as bigint) as participants_count,
    cast(case when booked.bookings_count > 0 then booked.booked_spaces_count else 0 end as bigint) as booked_spaces_count,
    events.spaces_taken_count / nullif(events.capacity_count, 0) as fill_ratio,
    events.created_at,
    events.updated_at
from core.events as events
left join marts.accounts as accounts using (account_id)
left join booked
    on booked.account_id = events.account_id
    and booked.event_id = events.event_id
where events.deleted_at is null;

comment on view marts.events is 'One row per live event: by working assumption a scheduled group session that people book into. Key: account_id, event_id. Local times in the account''s zone.';
comment on column marts.events.account_id is 'Account the event belongs to.';
comment on column marts.events.account_name is 'Account name as it is now, null where the account was never listed. Two accounts may have the same: group by account_id.';
comment on column marts.events.account_slug is 'Account slug; null where the account was never listed.';
comment on column marts.events.event_id is 'Event id; unique within the account.';
comment on column marts.events.service_id is 'Service the event offers.';
comment on column marts.events.title is 'Title.';
comment on column marts.events.start_at is 'Start (UTC).';
comment on column marts.events.end_at is 'End (UTC).';
comment on column marts.events.reporting_time_zone is 'IANA time zone of the local times: the account''s.';
comment on column marts.events.is_zone_assumed is 'Whether that zone is only assumed; then local times may be wrong.';
comment on column marts.events.start_local_at is 'Start on the clocks of the account: a local time without a zone.';
comment on column marts.events.end_local_at is 'End on the clocks of the account: a local time without a zone.';
comment on column marts.events.start_on is 'Local day of the start.';
comment on column marts.events.status is 'confirmed or cancelled; an unknown status stands as sent.';
comment on column marts.events.status_raw is 'Status exactly as sent.';
comment on column marts.events.is_cancelled is 'Whether the event is cancelled; false for an unknown or missing status.';
comment on column marts.events.capacity_count is 'Places on offer, as sent.';
comment on column marts.events.spaces_taken_count is 'Places taken, as sent; compare booked_spaces_count.';
comment on column marts.events.bookings_count is 'Bookings that name the event and are not cancelled.';
comment on column marts.events.cancelled_bookings_count is 'Bookings that name the event and are cancelled.';
comment on column marts.events.participants_count is 'Customers on those bookings_count bookings, without those who cancelled.';
comment on column marts.events.booked_spaces_count is 'Places those participants take, counted from the bookings; null where the API sends no places.';
comment on column marts.events.fill_ratio is 'spaces_taken_count / capacity_count, both as sent: 1.0 is full; null where the capacity is missing or 0, or no places taken are sent.';
comment on column marts.events.created_at is 'When the API says the event was created (UTC); null where it sends none.';
comment on column marts.events.updated_at is 'When the API says the event last changed (UTC); null where it sends none.';
