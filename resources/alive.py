"""Which runs are still being done by a process that lives, so that the row of a killed one does not stand as running for ever.

What lives here: one file for each process and warehouse, `.<warehouse>.alive-*`, locked for the life of the process and holding the ids of its runs. What
does not: the lease (it is given back between the steps of a run, so a free lease proves nothing) and the rows of `ops.runs` (`runs`).
The lock is the kernel's (flock), so a killed process gives it back. Both functions are called under the lease: nobody looks while a file is made.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import tempfile
from pathlib import Path

# Open for the life of the process, by warehouse: closing one would give its lock back.
_own: dict[Path, tuple[int, Path]] = {}


def note_run(warehouse: Path, run_id: str) -> None:
    """This process does a run, from now on and until it ends."""
    key = warehouse.absolute()
    descriptor, path = _own.get(key, (-1, key))
    if descriptor < 0 or not path.exists():
        if descriptor >= 0:
            os.close(descriptor)  # its folder was removed
        descriptor, name = tempfile.mkstemp(prefix=_prefix(warehouse), dir=key.parent)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _own[key] = descriptor, Path(name)
    os.write(descriptor, f"{run_id}\n".encode())


def living_runs(warehouse: Path) -> set[str]:
    """The runs of all processes that live; what processes that are gone have left behind is removed."""
    found: set[str] = set()
    for path in warehouse.absolute().parent.glob(f"{_prefix(warehouse)}*"):
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            found |= set(path.read_text(encoding="utf-8").split())  # its process holds it, so it lives
        else:
            path.unlink()
        finally:
            os.close(descriptor)
    return found


def _prefix(warehouse: Path) -> str:
    return f".{warehouse.name}.alive-"


@atexit.register
def _tidy() -> None:
    """A process that ends by itself leaves no file; another that looks at this moment finds either the lock or nothing."""
    for _, path in _own.values():
        path.unlink(missing_ok=True)
