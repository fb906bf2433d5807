-- Grain: one row per account that was ever listed, closed ones too: their bookings keep a name and a calendar. Key: account_id.
-- Units: none. Time zone: instants are UTC; reporting_time_zone is the one that every local day in marts uses.
-- A zone that DuckDB does not know would make every query fail: it counts as assumed, and UTC stands in.
create or replace view marts.accounts as
with zones as (
    select account_id, reporting_time_zone, is_zone_assumed
    from ops.account_time_zones
    where reporting_time_zone in (select name from pg_timezone_names())
)
select
    account_id,
    accounts.name as account_name,
    accounts.slug as account_slug,
    accounts.currency,
    coalesce(zones.reporting_time_zone, 'UTC') as reporting_time_zone,
    coalesce(zones.is_zone_assumed, true) as is_zone_assumed,
    accounts.created_at,
    accounts.updated_at,
    accounts.deleted_at
from core.accounts as accounts
left join zones using (account_id);

comment on view marts.accounts is 'One row per account ever listed, closed ones too, with the time zone its local days use. Key: account_id. Times in UTC.';
comment on column marts.accounts.account_id is 'Account.';
comment on column marts.accounts.account_name is 'Account name as it is now, null for an account that only the settings name. Two accounts may have the same.';
comment on column marts.accounts.account_slug is 'Account slug, as in its public addresses.';
comment on column marts.accounts.currency is 'ISO 4217 code of the amounts of the account, where the API sends one; null: not known.';
comment on column marts.accounts.reporting_time_zone is 'IANA time zone of every local day and local time of the account.';
comment on column marts.accounts.is_zone_assumed is 'Whether that zone is only assumed, for want of a setting or a word of the API; then local days may be wrong.';
comment on column marts.accounts.created_at is 'When the API says the account was created (UTC); null where it sends none.';
comment on column marts.accounts.updated_at is 'When the API says the account last changed (UTC); null where it sends none.';
comment on column marts.accounts.deleted_at is 'Server time at which the deletion of the account was established (UTC). Null also for one that the API lists no longer, whose rows stay as they were: marts.data_status.is_visible.';
