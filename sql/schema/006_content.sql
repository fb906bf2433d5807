-- The hash is taken over the document as it is kept. That two hashes differ says little by itself: the merge compares the content then (resources/content.py).
comment on column core.accounts.content_hash is 'BLAKE2b-128 of the document; where it is equal nothing is rewritten, and where it is not the content decides: without links, meta and the order of members.';
comment on column core.customers.content_hash is 'BLAKE2b-128 of the document; where it is equal nothing is rewritten, and where it is not the content decides: without links, meta and the order of members.';
comment on column core.bookings.content_hash is 'BLAKE2b-128 of the document; where it is equal nothing is rewritten, and where it is not the content decides: without links, meta and the order of members.';
comment on column core.events.content_hash is 'BLAKE2b-128 of the document; where it is equal nothing is rewritten, and where it is not the content decides: without links, meta and the order of members.';
