"""Which runs are still being done by a process that lives, so that a killed one does not stand as running for ever.

What lives here: one file for each process and place, `.<place>.alive-*`, locked for the life of the process and holding the ids of its runs. A place is a
warehouse, for the rows of `ops.runs`, or Dagster's own folder, for its runs. What does not: the lease (it is given back between the steps of a run, so a
free lease proves nothing) and what is done about a killed run (`runs`, `pipelines.schedules`).
The lock is the kernel's (flock), so a killed process gives it back. Who looks takes it in common with others who look, and only for that moment.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import tempfile
from pathlib import Path

# Open for the life of the process, by place: closing one would give its lock back.
_own: dict[Path, tuple[int, Path]] = {}


def note_run(place: Path, run_id: str) -> None:
    """This process does a run, from now on and until it ends."""
    key = place.resolve()
    descriptor, path = _own.get(key, (-1, key))
    # Not there: its folder was removed; or somebody looked before it was locked, and took it for one that was left behind.
    while descriptor < 0 or not path.exists():
        if descriptor >= 0:
            del _own[key]  # first: what is closed may be another file's number soon
            os.close(descriptor)
        descriptor, name = tempfile.mkstemp(prefix=_prefix(key), dir=key.parent)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        path = Path(name)
        _own[key] = descriptor, path
    os.write(descriptor, f"{run_id}\n".encode())


def living_runs(place: Path) -> set[str]:
    """The runs of all processes that live; what processes that are gone have left behind is removed."""
    found: set[str] = set()
    place = place.resolve()
    for path in place.parent.glob(f"{_prefix(place)}*"):
        try:
            file = path.open(encoding="utf-8")
        except FileNotFoundError:
            continue  # its process has ended just now
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                found |= set(file.read().split())  # its process holds it, so it lives
            else:
                path.unlink(missing_ok=True)
    return found


def _prefix(place: Path) -> str:
    return f".{place.name}.alive-"


@atexit.register
def _tidy() -> None:
    """A process that ends by itself leaves no file; another that looks at this moment finds either the lock or nothing."""
    for _, path in _own.values():
        path.unlink(missing_ok=True)
