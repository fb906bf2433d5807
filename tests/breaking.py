"""A sync in a child process that dies or meets a full disk at a chosen point: what the tests of kills and of full disks share.

What lives here: the child's program and how it is started. What does not: which points are chosen, and what must be true afterwards.
The child is told by the environment: BREAK_AT `name:number:side` (before or after the n-th call of that kind) and BREAK_BY (the signal that comes there,
else SIGKILL), BREAK_FULL `bytes` (no file may grow beyond, as on a full disk), BREAK_BLIND `1` (the look at free space is skipped, as where another
program fills the disk just after it).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

from resources.settings import PROJECT_FOLDER, Settings
from tests.emulator import Emulator

# Kinds of points: transactions, the checkpoint and closing of the warehouse, and the steps of publishing.
POINTS = ("begin", "commit", "checkpoint", "close", "copy", "fsync", "replace")
CHILD = """
import os, resource, shutil, signal, sys
from pathlib import Path
from unittest.mock import patch
import duckdb
from pipelines import cli
from resources import database, migrations

name, number, side = os.environ.get("BREAK_AT", "-:0:-").split(":")
left = int(number)
by = signal.Signals[os.environ.get("BREAK_BY", "SIGKILL")]

def counted(kind, call):
    def called(*values, **named):
        global left
        if kind == name:
            left -= 1
        is_here = kind == name and left == 0
        if is_here and side == "before":
            os.kill(os.getpid(), by)
        done = call(*values, **named)
        if is_here:
            os.kill(os.getpid(), by)
        return done
    return called

class Connection:
    # DuckDB's own class takes no attributes; this one stands in front of it.
    def __init__(self, real):
        self.real = real
        for kind in ("begin", "commit", "close"):
            setattr(self, kind, counted(kind, getattr(real, kind)))
    def execute(self, sql, *values):
        call = counted("checkpoint", self.real.execute) if sql == "checkpoint" else self.real.execute
        return call(sql, *values)
    def __getattr__(self, wanted):
        return getattr(self.real, wanted)

connect = database.connect
database.connect = migrations.connect = lambda *values, **named: Connection(connect(*values, **named))
shutil.copyfile = counted("copy", shutil.copyfile)
os.fsync = counted("fsync", os.fsync)
Path.replace = counted("replace", Path.replace)
if os.environ.get("BREAK_BLIND"):
    for most in ("resources.files.LEAST_FREE_BYTES", "resources.warehouse.PART_SPACE_BYTES"):
        patch(most, -(1 << 40)).start()  # which fails where nothing has that name any more
if most := os.environ.get("BREAK_FULL"):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(most), int(most)))
sys.argv = ["appointedd-warehouse", *sys.argv[1:]]
cli.main()
"""


def environment(emulator: Emulator, settings: Settings) -> dict[str, str]:
    """Everything that a child needs to know, and nothing of this machine's own settings."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    return own | {
        **emulator.environment(),
        "APPOINTEDD_ENV_FILE": "",
        "WAREHOUSE_PATH": str(settings.warehouse_path),
        "WAREHOUSE_PUBLISHED_PATH": str(settings.warehouse_published_path),
        "SYNC_REQUESTS_PER_SECOND": "1000",
        "SYNC_CONCURRENCY": "2",
        "SYNC_HISTORY_START": "2023-01-01",
    }


def started(env: Mapping[str, str], *arguments: str) -> subprocess.Popen[str]:
    """The child, syncing; what it says is kept."""
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, "sync", *arguments],
        cwd=PROJECT_FOLDER,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
