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

from resources.errors import LeaseHeldError, writable

log = logging.getLogger(__name__)
POLL_S = 0.2


def _holder(path: Path) -> str:
    try:
        told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return f"process {told['pid']} on {told['host']} ({told['what']}, since {told['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"  # the text is a courtesy: it may be half written at this moment


class Lease:
    """The lock on a warehouse, held or waited for; made by `lease`."""

    def __init__(self, warehouse: Path, what: str, sleep: Callable[[float], None], clock: Callable[[], float]) -> None:
        self._warehouse = warehouse
        real = warehouse.resolve()  # whoever comes by a symbolic link wants the same file
        self._path = real.with_name(real.name + ".lock")
        self._what = what
        self._sleep = sleep
        self._clock = clock
        with writable("WAREHOUSE_PATH", warehouse):
            self._path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            self._lock = _open(self._path)
            try:
                # Who waits holds this second file's lock in common with other waiters; so the holder can see that somebody does.
                self._queue = _open(self._path.with_name(self._path.name + ".waiting"))
            except BaseException:
                os.close(self._lock)  # nobody has a lease yet that he could close
                raise

    def acquire(self, wait_s: float) -> None:
        """Take the lock, waiting up to `wait_s` seconds; raises `LeaseHeldError`."""
        if not _try_lock(self._lock):
            self._wait(wait_s)
        text = {
            "pid": os.getpid(),
            "host": os.uname().nodename,
            "what": self._what,
            "since": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
        }
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, json.dumps(text).encode(), 0)

    def _wait(self, wait_s: float) -> None:
        deadline = self._clock() + wait_s
        holder = _holder(self._path)
        log.log(
            logging.WARNING if wait_s else logging.DEBUG,
            "Waiting for %s, which is being written by %s",
            self._warehouse,
            holder,
        )
        fcntl.flock(self._queue, fcntl.LOCK_SH)
        try:
            while not _try_lock(self._lock):
                if self._clock() >= deadline:
                    raise LeaseHeldError(
                        f"{self._warehouse} is being written by {_holder(self._path)}. Wait until it has ended, or end it, and try again."
                    )
                self._sleep(POLL_S)
        finally:
            fcntl.flock(self._queue, fcntl.LOCK_UN)

    def release(self) -> None:
        """Give the lock back."""
        os.ftruncate(self._lock, 0)
        fcntl.flock(self._lock, fcntl.LOCK_UN)

    def is_wanted(self) -> bool:
        """Whether somebody waits for the lock."""
        if _try_lock(self._queue):
            fcntl.flock(self._queue, fcntl.LOCK_UN)
            return False
        return True

    def give_way(self, wait_s: float) -> None:
        """Let whoever waits go first, and take the lock again afterwards. The caller has closed the warehouse file."""
        self.release()
        deadline = self._clock() + wait_s
        while self.is_wanted() and self._clock() < deadline:
            self._sleep(POLL_S)  # a waiter leaves the queue when he has the lock
        self.acquire(wait_s)

    def close(self) -> None:
        """Give back whatever is held; the kernel would do it for a killed process."""
        os.close(self._lock)
        os.close(self._queue)


@contextmanager
def lease(
    warehouse: Path,
    what: str,
    *,
    wait_s: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Lease]:
    """Hold the lease on a warehouse for the length of a `with`.

    `what` says what for (it is shown to whoever waits). Waits up to `wait_s` seconds, telling once whom for, then raises `LeaseHeldError`.
    """
    held = Lease(warehouse, what, sleep, clock)
    try:
        held.acquire(wait_s)
        yield held
        held.release()
    finally:
        held.close()


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False  # somebody else has it: the caller waits
    return True
