"""The lease: one writer at a time, told apart by a lock on a file of its own, `<warehouse>.lock`.

What lives here: taking, waiting for and giving back the lock, and who holds it. What does not: the warehouse file itself.
The lock is the kernel's (flock), so a killed process gives it back; the file's text (process, run, since) is for people and is never trusted.
Never a lock on the warehouse file: opening and closing that by other means would drop DuckDB's own lock (docs/decisions.md).
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from resources.errors import LeaseHeldError

log = logging.getLogger(__name__)
POLL_S = 0.2


def _holder(path: Path) -> str:
    try:
        told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return f"process {told['pid']} on {told['host']} ({told['what']}, since {told['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"  # the text is a courtesy: it may be half written at this moment


@contextmanager
def lease(
    warehouse: Path,
    what: str,
    *,
    wait_s: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[None]:
    """Hold the lease on a warehouse for the length of a `with`.

    `what` says what for (it is shown to whoever waits). Waits up to `wait_s` seconds, telling once whom for, then raises `LeaseHeldError`.
    """
    path = warehouse.with_name(warehouse.name + ".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline, told = clock() + wait_s, False
        while not _try_lock(descriptor):
            if clock() >= deadline:
                raise LeaseHeldError(
                    f"{warehouse} is being written by {_holder(path)}. Wait until it has ended, or end it, and try again."
                )
            if not told:
                log.warning("Waiting for %s, which is being written by %s", warehouse, _holder(path))
                told = True
            sleep(POLL_S)
        text = {"pid": os.getpid(), "host": os.uname().nodename, "what": what, "since": datetime.now(UTC).isoformat()}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(text).encode(), 0)
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False  # somebody else has it: the caller waits
    return True
