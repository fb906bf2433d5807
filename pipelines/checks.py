"""Asset checks: each runs one `sql/checks/*.sql`, which returns offending rows; none means that it passes.

What lives here: what Dagster is told. What does not: what a check asks (`sql/checks`) and the gate before publishing (`resources.publish`), which
runs the blocking ones itself, whoever calls it.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from pipelines.ending import note_end
from pipelines.streams import ACCOUNTS, Stream
from resources.dagster_resources import WarehouseResource
from resources.publish import run_checks
from resources.sql_files import Check, checks
from resources.warehouse import WRITER_WAIT_S


def _checks_of(stream: str, chosen: list[Check]) -> dg.AssetChecksDefinition:
    @dg.multi_asset_check(
        name=f"{stream}_checks",
        can_subset=True,
        specs=[
            dg.AssetCheckSpec(
                c.name,
                asset=stream,
                blocking=c.is_blocking,
                description=c.says,
                metadata={"sql": dg.MetadataValue.md(f"```sql\n{c.sql}\n```")},
            )
            for c in chosen
        ],
    )
    def _run_checks(
        context: dg.AssetCheckExecutionContext, warehouse: WarehouseResource
    ) -> Iterator[dg.AssetCheckResult]:
        selected = {key.name for key in context.selected_asset_check_keys}
        # However long another run writes: what is published holds nothing of this run yet, and its rows are the ones to be judged.
        with warehouse.open().reader(WRITER_WAIT_S) as (connection, _):
            findings = run_checks(connection, [c for c in chosen if c.name in selected])
        if blocking := [str(f) for f in findings if f.count and f.check.is_blocking]:
            # Dagster skips publishing after it, which would have ended the run's row.
            note_end(warehouse.open(), context.run.run_id, blocking)
        for finding in findings:
            metadata: dict[str, Any] = {"offending_rows": finding.count}
            if finding.examples:
                metadata["first"] = dg.MetadataValue.md("\n".join(f"- {e}" for e in finding.examples))
            yield dg.AssetCheckResult(
                passed=finding.count == 0,
                check_name=finding.check.name,
                asset_key=stream,
                severity=dg.AssetCheckSeverity.ERROR if finding.check.is_blocking else dg.AssetCheckSeverity.WARN,
                description=None if finding.count == 0 else finding.check.says,
                metadata=metadata,
            )

    return _run_checks


def asset_checks(streams: Sequence[Stream]) -> list[dg.AssetChecksDefinition]:
    """One set of checks for the accounts, and one for each of these streams."""
    known = checks(tuple(s.name for s in streams if s.is_generic))
    names = {ACCOUNTS.name, *(s.name for s in streams)}
    return [
        _checks_of(name, [c for c in known if c.stream == name]) for name in sorted({c.stream for c in known} & names)
    ]
