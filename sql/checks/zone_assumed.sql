-- severity: warn
-- stream: accounts
-- says: The time zone of the account is not known, or not to DuckDB, so its local days are only assumed: name it in SYNC_ACCOUNT_TIME_ZONES.
select accounts.account_id, accounts.name as account_name, zones.reporting_time_zone
from core.accounts as accounts
left join ops.account_time_zones as zones using (account_id)
where accounts.deleted_at is null
    and (
        zones.account_id is null
        or zones.is_zone_assumed
        or zones.reporting_time_zone not in (select name from pg_timezone_names())
    )
