-- Grain: one row per account and UTC day on which one of its bookings starts or was created. Key: account_id, utc_on. A helper of the other marts.
-- Units: seconds. Time zone: utc_on is a day in UTC.
-- Why it exists: timezone(zone, instant) with a zone that differs by row costs 3 s a million rows, a joined offset a tenth of that. Only instants of a day on
-- which the clocks change, where utc_offset_s is null, are converted one by one:
--   coalesce(make_timestamp(epoch_us(at) + 1000000 * utc_offset_s), timezone(reporting_time_zone, at))
-- cast(make_timestamp(epoch_us(at)) as date) is the UTC day whatever the TimeZone of the reader's session is; cast(at as date) is not.
create or replace view marts.utc_offsets as
with days as (
    select account_id, cast(make_timestamp(epoch_us(start_at)) as date) as utc_on
    from core.bookings
    where start_at is not null
    union
    select account_id, cast(make_timestamp(epoch_us(created_at)) as date) as utc_on
    from core.bookings
    where created_at is not null
),
ends as (
    select
        days.account_id,
        days.utc_on,
        coalesce(accounts.reporting_time_zone, 'UTC') as reporting_time_zone,
        epoch(days.utc_on) as first_s,
        epoch(days.utc_on + 1) as last_s
    from days
    left join marts.accounts as accounts using (account_id)
),
offsets as (
    select
        account_id,
        utc_on,
        reporting_time_zone,
        cast(epoch(timezone(reporting_time_zone, to_timestamp(first_s))) - first_s as bigint) as first_offset_s,
        cast(epoch(timezone(reporting_time_zone, to_timestamp(last_s))) - last_s as bigint) as last_offset_s
    from ends
)
select
    account_id,
    utc_on,
    reporting_time_zone,
    case when first_offset_s = last_offset_s then first_offset_s end as utc_offset_s
from offsets;

comment on view marts.utc_offsets is 'Helper of the other marts: offset of the account''s time zone on each UTC day of its bookings. Key: account_id, utc_on. Seconds.';
comment on column marts.utc_offsets.account_id is 'Account.';
comment on column marts.utc_offsets.utc_on is 'Day in UTC, not in the account''s zone.';
comment on column marts.utc_offsets.reporting_time_zone is 'IANA time zone of the account''s local days: marts.accounts.';
comment on column marts.utc_offsets.utc_offset_s is 'Local time less UTC, in seconds, all through that UTC day; null on a day on which the clocks change.';
