-- severity: block
-- stream: accounts
-- says: No account has ever been read, so there is nothing to publish; the problems of the run say why.
select 'core.accounts is empty' as found
where not exists (select 1 from core.accounts)
