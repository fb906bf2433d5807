"""The rows of `ops.runs`: a run's start, its end, and the end of those that were killed.

What lives here: writing them. What does not: reading them (`pipelines.status`, the checks), which processes live (`alive`), what a run did (`pipelines.run`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import duckdb

from resources.database import transaction
from resources.errors import in_one_line

KILLED = "The run's process was killed, or it ended before the run was over. What it had committed stays."


@dataclass(frozen=True)
class Limits:
    """What runs hold themselves to, written on each run's row so that checks in SQL can judge by it: see `Settings`."""

    overlap_minutes: int
    freshness_hours: float


@dataclass
class Runs:
    """Writes down what becomes of runs; each method is one transaction."""

    connection: duckdb.DuckDBPyConnection

    def start_run(
        self,
        run_id: str,
        kind: str,
        started_by: str,
        version: str,
        limits: Limits,
        streams: Sequence[str] | None = None,
        api_clients: Sequence[str] | None = None,
    ) -> None:
        """Write the run's row; a run of several steps calls this in each, and is running again until that step ends.

        `streams`, `api_clients`: what the contract and the settings of the run name; None where that is no matter to it.
        """
        with transaction(self.connection):
            (number,) = self.connection.execute("select coalesce(max(number), 0) + 1 from ops.runs").fetchone() or (1,)
            self.connection.execute(
                """
                merge into ops.runs as known using (select $run_id as run_id) as new using (run_id)
                when matched then update set status = case status when 'red' then 'red' else 'running' end, ended_at = null
                when not matched then insert (
                    run_id, number, kind, started_by, product_version, started_at, status, problems, warnings, overlap_minutes, freshness_hours,
                    streams, api_clients
                ) values (
                    $run_id, $number, $kind, $started_by, $version, $now, 'running', [], [], $overlap_minutes, $freshness_hours, $streams, $api_clients
                )
                """,
                {
                    "run_id": run_id,
                    "number": number,
                    "kind": kind,
                    "started_by": started_by,
                    "version": version,
                    "now": datetime.now(UTC),
                    "overlap_minutes": limits.overlap_minutes,
                    "freshness_hours": limits.freshness_hours,
                    "streams": None if streams is None else list(streams),
                    "api_clients": None if api_clients is None else list(api_clients),
                },
            )

    def end_run(self, run_id: str, problems: Sequence[str], warnings: Sequence[str], *, is_over: bool = True) -> None:
        """Add sentences to the run's row, each once and in one line whatever it quotes, in the order in which they come.

        It is red from its first problem on, and green only when it is over without one.
        Between the steps of a run (`is_over` false) it goes on running, so that a run which is killed there never stands as complete.
        """
        with transaction(self.connection):
            self.connection.execute(
                """
                update ops.runs set
                    ended_at = case when $is_over or len(problems) + len($problems::VARCHAR[]) > 0 then $now else ended_at end,
                    problems = list_concat(problems, list_filter($problems::VARCHAR[], lambda text: not list_contains(problems, text))),
                    warnings = list_concat(warnings, list_filter($warnings::VARCHAR[], lambda text: not list_contains(warnings, text))),
                    status = case when len(problems) + len($problems::VARCHAR[]) > 0 then 'red' when $is_over then 'green' else 'running' end
                where run_id = $run_id
                """,
                {
                    "run_id": run_id,
                    "now": datetime.now(UTC),
                    "problems": list(dict.fromkeys(map(in_one_line, problems))),
                    "warnings": list(dict.fromkeys(map(in_one_line, warnings))),
                    "is_over": is_over,
                },
            )

    def end_killed_runs(self, living: Collection[str]) -> None:
        """Make red what still stands as running though no process does it any more; `living` are the runs of processes that live."""
        with transaction(self.connection):
            self.connection.execute(
                """
                update ops.runs set status = 'red', problems = list_append(problems, $problem)
                where status = 'running' and not list_contains($living::VARCHAR[], run_id)
                """,
                {"problem": KILLED, "living": list(living)},
            )
