-- severity: warn
-- stream: accounts
-- says: The account is not in the newest account list, so its rows stay as they were until it returns: check that the API client's creator is still an administrator of it, that the client may see it, and that SYNC_ACCOUNTS does not leave it out.
with readings as (
    select account_id, max(until) as last_listed_at
    from ops.windows
    where stream = 'accounts'
    group by account_id
)
select accounts.account_id, accounts.name as account_name, readings.last_listed_at
from core.accounts as accounts
left join readings using (account_id)
where accounts.deleted_at is null
    -- Before the first complete reading there is no newest list, and nothing is frozen.
    and exists (select 1 from readings)
    and accounts.account_id not in (select account_id from ops.visible_accounts)
