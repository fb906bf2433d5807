"""`make dev`: Dagster's UI and daemon against the bundled emulator, whose world changes a little every few seconds.

What lives here: putting the two together. What does not: either of them. It reads no `.env` and keeps its files in `data/dev/`,
which it empties at each start.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

from resources.settings import PREFIXES, PROJECT_FOLDER
from tests.emulator import Emulator, World

CHANGE_EVERY_S = 5.0


def main() -> int:
    """Run until Ctrl-C; Dagster's own exit code."""
    folder = PROJECT_FOLDER / "data" / "dev"
    world = World(seed=2, accounts=4, customers=2_000, bookings=4_000, events=80, years=3, now=datetime.now(UTC))
    world.clock.run()
    ended = threading.Event()

    def live() -> None:
        while not ended.wait(CHANGE_EVERY_S):
            world.mutate(1)

    # A new world at each start: neither files nor Dagster's history of an earlier one would fit it, and neither may mix with the user's own.
    shutil.rmtree(folder, ignore_errors=True)
    home = folder / "dagster"
    home.mkdir(parents=True)
    shutil.copy(PROJECT_FOLDER / "pipelines" / "dagster.yaml", home / "dagster.yaml")
    with Emulator(world) as emulator:
        environment = {k: v for k, v in os.environ.items() if not k.upper().startswith(PREFIXES)}
        environment |= emulator.environment() | {
            "APPOINTEDD_ENV_FILE": "",
            "DAGSTER_HOME": str(home),
            "WAREHOUSE_PATH": str(folder / "warehouse.duckdb"),
            "WAREHOUSE_PUBLISHED_PATH": str(folder / "analytics.duckdb"),
            "SYNC_HISTORY_START": str(datetime.now(UTC).year - 1) + "-01-01",
        }
        threading.Thread(target=live, daemon=True).start()
        dagster = Path(sys.executable).with_name("dagster")
        # A process started in the background ignores Ctrl-C, and its children inherit that: give Dagster the default back.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        process = subprocess.Popen(
            [dagster, "dev", "-h", "127.0.0.1", "-w", PROJECT_FOLDER / "workspace.yaml", *sys.argv[1:]],
            cwd=folder,  # Dagster reads the `.env` of the folder that it is started in
            env=environment,
        )
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        try:
            return process.wait()
        finally:
            ended.set()


if __name__ == "__main__":
    sys.exit(main())
