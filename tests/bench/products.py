"""The three products as commands: how each is started against a server, and what one run of it was. Which runs there are is not decided here (`scenarios`)."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resources.database import connect
from resources.settings import PREFIXES, PROJECT_FOLDER
from tests.bench.goals import Sample
from tests.bench.measure import MB, Measured, RunFailedError, run, tail
from tests.bench.server import Orders
from tests.bench.truth import differences

PEERS_PYTHON = PROJECT_FOLDER / "build" / "bench-venv" / "bin" / "python"
SCRIPTS = {"script": "afternoon.py", "dlt": "with_dlt.py"}
LONGEST_RUN_S = 1500.0
UNLIMITED = 100_000.0
IN_FLIGHT = 32


@dataclass(frozen=True)
class Setting:
    """How the server behaves and how ours is set; every sample says so too."""

    latency_s: float = 0.0
    rate: float | None = None
    burst: int = 1
    concurrency: int = IN_FLIGHT
    requests_per_second: float = UNLIMITED
    filters: bool = True
    sort: bool = True
    faults: int | None = None
    own: dict[str, str] = field(default_factory=dict)

    def apply(self, server: Orders) -> None:
        """Set the server so."""
        server.set(
            latency_s=self.latency_s,
            rate=self.rate,
            burst=self.burst,
            filters=self.filters,
            sort=self.sort,
            faults=self.faults,
        )


def _clean_environment() -> dict[str, str]:
    return {n: v for n, v in os.environ.items() if not n.upper().startswith((*PREFIXES, "DAGSTER", "PYTHON"))}


def file_of(product: str, folder: Path) -> Path:
    """The file that is judged: for ours the one that analysts open."""
    return folder / ("analytics.duckdb" if product == "ours" else "warehouse.duckdb")


def _environment(product: str, server: Orders, folder: Path, setting: Setting) -> dict[str, str]:
    if product != "ours":
        return _clean_environment() | {n.removeprefix("APPOINTEDD_"): v for n, v in server.environment.items()}
    return (
        _clean_environment()
        | server.environment
        | {
            "APPOINTEDD_ENV_FILE": "",
            "PYTHONPATH": str(PROJECT_FOLDER),
            "DAGSTER_HOME": str(folder / "dagster"),
            "WAREHOUSE_PATH": str(folder / "warehouse.duckdb"),
            "WAREHOUSE_PUBLISHED_PATH": str(folder / "analytics.duckdb"),
            "SYNC_CONCURRENCY": str(setting.concurrency),
            "SYNC_REQUESTS_PER_SECOND": str(setting.requests_per_second),
            "SYNC_ACCOUNT_TIME_ZONES": json.dumps(server.zones),
        }
        | setting.own
    )


def _command(product: str, folder: Path, *, through_dagster: bool) -> list[str]:
    if product != "ours":
        return [str(PEERS_PYTHON), str(Path(__file__).with_name(SCRIPTS[product])), str(file_of(product, folder))]
    if through_dagster:
        return [sys.executable, "-m", "tests.bench.through_dagster"]
    # What the command appointedd-warehouse runs; by module, so that it is this checkout's.
    return [sys.executable, "-c", "from pipelines.cli import main; main()", "sync", "--json", "--quiet"]


def _written(output: str) -> int:
    """Rows that ours wrote, by its own report."""
    told: dict[str, Any] = json.loads(output)
    kinds = ("inserted_count", "updated_count", "tombstoned_count")
    return sum(int(stream[kind]) for stream in told["streams"] for kind in kinds)


def _publish_s(folder: Path) -> float:
    """From the last commit to the file that analysts open."""
    published = folder / "analytics.duckdb"
    with connect(published, read_only=True) as connection:
        row = connection.execute("select epoch(max(committed_at)) from ops.slices").fetchone()
    return published.stat().st_mtime - float(row[0] if row else 0)


def sample(
    scenario: str,
    product: str,
    server: Orders,
    folder: Path,
    setting: Setting,
    *,
    minimum: int,
    may_fail: bool = False,
    through_dagster: bool = False,
) -> Sample:
    """One run of a product on a server that is set already; raises `RunFailedError` where it fails and may not."""
    folder.mkdir(parents=True, exist_ok=True)
    server.order("counts")
    command = _command(product, folder, through_dagster=through_dagster)
    measured = run(command, env=_environment(product, server, folder, setting), cwd=folder, timeout_s=LONGEST_RUN_S)
    if measured.exit_code and not may_fail:
        raise RunFailedError(
            f"{product} ended with code {measured.exit_code} ({scenario}). {tail(folder)}\n{measured.output[-1500:]}"
        )
    return _as_sample(scenario, product, server, folder, setting, measured, minimum, through_dagster=through_dagster)


def _as_sample(
    scenario: str,
    product: str,
    server: Orders,
    folder: Path,
    setting: Setting,
    measured: Measured,
    minimum: int,
    *,
    through_dagster: bool,
) -> Sample:
    counts = server.order("counts")
    file, truth = file_of(product, folder), server.truth()
    ours = product == "ours"
    is_told = ours and not through_dagster and measured.exit_code in (0, 1)
    return Sample(
        scenario=scenario,
        product=product,
        wall_s=measured.wall_s,
        cpu_s=measured.cpu_s,
        peak_mb=measured.peak_mb,
        requests=counts["requests"],
        tokens=counts["tokens"],
        limited=counts["limited"],
        span_s=counts["span_s"],
        max_in_flight=counts["in_flight"],
        minimum=minimum,
        rows=sum(rows for rows, *_ in truth.values()),
        bookings=server.bookings,
        file_mb=file.stat().st_size / MB if file.exists() else 0.0,
        written=_written(measured.output) if is_told else None,
        publish_s=_publish_s(folder) if ours and file.exists() else None,
        latency_s=setting.latency_s,
        rate=setting.rate,
        burst=setting.burst,
        concurrency=setting.concurrency if ours else None,
        requests_per_second=setting.requests_per_second if ours else None,
        exit_code=measured.exit_code,
        differences=tuple(differences(product, file, truth)) if file.exists() else ("there is no file",),
    )
