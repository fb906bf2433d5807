"""A command as a whole process tree: wall, CPU and peak memory. Reads /proc, so Linux only. What the command does is not its business."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SAMPLES_PER_SECOND = 20
WATCHER = "measure"
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
MB = 1024 * 1024


class RunFailedError(Exception):
    """A measured command ended with an exit code that was not expected, or not in time; its last words are in the message."""


@dataclass(frozen=True)
class Measured:
    """One run. `cpu_s` is that of all processes that were waited for; `peak_mb` the largest sum of resident memory of the tree, in MiB."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    exit_code: int
    output: str


def _tree(root: int) -> list[int]:
    """A process and all that it and its own have started and that still live."""
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        with suppress(OSError):  # it has ended meanwhile
            for thread in Path(f"/proc/{pid}/task").iterdir():
                children = (thread / "children").read_text(encoding="ascii")
                todo += map(int, children.split())
    return found


def _resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * PAGE_BYTES
    except OSError:
        return 0  # it has ended meanwhile, and holds nothing


def _ended(pid: int) -> None:
    """Wait for the end of a process; a wait without an end of its own would be deaf to a Ctrl-C that came just before it."""
    descriptor = os.pidfd_open(pid)
    try:
        while not select.select([descriptor], [], [], 1.0)[0]:
            pass
    finally:
        os.close(descriptor)


def run(command: Sequence[str], *, env: Mapping[str, str], cwd: Path, timeout_s: float) -> Measured:
    """Run to the end and measure; raises `RunFailedError` where it takes too long, after its whole process group was ended.

    Standard output is kept; standard error goes to `cwd`/stderr.txt.
    """
    over = threading.Event()
    peak = 0
    with (cwd / "stdout.txt").open("wb") as output, (cwd / "stderr.txt").open("wb") as errors:
        began = time.monotonic()
        process = subprocess.Popen(
            list(command), env=dict(env), cwd=cwd, stdout=output, stderr=errors, start_new_session=True
        )

        def watch() -> None:
            nonlocal peak
            while not over.wait(1 / SAMPLES_PER_SECOND):
                peak = max(peak, sum(map(_resident_bytes, _tree(process.pid))))
                if time.monotonic() - began > timeout_s:
                    os.killpg(process.pid, signal.SIGKILL)
                    return

        watcher = threading.Thread(target=watch, name=WATCHER)
        try:
            watcher.start()
            _ended(process.pid)
            wall = time.monotonic() - began
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)  # it has a session of its own, so a Ctrl-C does not reach it
            process.wait()
            raise
        finally:
            over.set()
            if watcher.ident is not None:
                watcher.join()
            process.returncode = 0  # it was waited for above, not by subprocess
    if wall > timeout_s:
        raise RunFailedError(f"{Path(command[0]).name} took longer than {timeout_s:.0f} s. {tail(cwd)}")
    return Measured(
        wall_s=wall,
        cpu_s=usage.ru_utime + usage.ru_stime,
        # The kernel's own number counts what this process held when it started the other; it is for those that end before they are looked at.
        peak_mb=peak / MB or usage.ru_maxrss / 1024,
        exit_code=os.waitstatus_to_exitcode(status),
        output=(cwd / "stdout.txt").read_text(encoding="utf-8", errors="replace"),
    )


def tail(cwd: Path, lines: int = 12) -> str:
    """The last words that a command said on standard error."""
    text = (cwd / "stderr.txt").read_text(encoding="utf-8", errors="replace")
    return "Its last words:\n" + "\n".join(text.splitlines()[-lines:])
