-- From here on it is noted which code shaped rows, too. Of those that are there it is not known: this version may read the same documents otherwise, and
-- what did not change is not read again. They count as shaped by something unknown until renormalise has shaped all rows of their stream.
delete from ops.shapes;
insert into ops.shapes
select distinct stream, 'unknown', now()
from ops.slices
where inserted_count + updated_count > 0;

comment on table ops.shapes is 'What shaped rows of a stream since renormalise last shaped all of them: one row per stream, contract (by what in it shapes columns) and version of the code that reads. Key: stream, contract_hash.';
comment on column ops.shapes.contract_hash is 'Hash of the names of the stream''s columns and lists, its date fields, the words for statuses where it has any, redact.members, and the version of the code; unknown: of rows that are older than schema 12.';
