-- What each list was asked for when its windows were committed: of one that the contract asks for more since, they are worth nothing.
create table ops.asked (
    stream VARCHAR not null,
    parts  VARCHAR[] not null
);
comment on table ops.asked is 'What each list is asked for, since the windows in ops.windows: one row per stream. Key: stream.';
comment on column ops.asked.stream is 'Stream.';
comment on column ops.asked.parts is 'Path, query and what is to come with the rows, as JSON: one text for each combination that the contract names.';
