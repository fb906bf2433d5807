-- Documents are compressed with zstd: a third of the file, and no more work (docs/performance.md). DuckDB cannot alter the compression of a column, so
-- resources/migrations.py makes each table that has a column document again, as it is declared above, rows and comments with it.
select 1;
