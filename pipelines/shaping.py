"""Work on pages that is done beside fetching them: a thread that shapes, or those that ask other processes to, and a limit to what waits for them.

What lives here: those threads, their queue, the bytes that wait in it. What does not: what shaping is (`parts`, `normalise`), the
threads that fetch and the one that commits (`walker`). One thread shapes, since that holds the interpreter's lock: with as many as fetch, they fought over it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from pipelines.beside import ShapingProcesses

# Bodies that wait to be shaped, for all slices of a plan together. Decoded, one batch of them at a time is a few times as large.
MOST_WAITING_BYTES = 16 * 1024 * 1024

T = TypeVar("T")


def _do(work: Callable[[], T], done: Future[T]) -> None:
    if not done.set_running_or_notify_cancel():
        return
    try:
        done.set_result(work())
    except BaseException as error:  # noqa: BLE001  raised again where the result is asked for
        done.set_exception(error)


class AtOnce:
    """Does all work where it is asked for, for lists that are walked by the thread that needs them; nothing waits."""

    beside = None
    is_idle = False

    def submit(self, work: Callable[[], T], size: int = 0) -> Future[T]:  # noqa: ARG002  as the other one's
        """Do it."""
        done: Future[T] = Future()
        _do(work, done)
        return done


class Shaper:
    """A thread that does one piece of work after the other, or several that begin them in the order in which they were submitted. `end` it.

    Whoever submits work on many bytes waits while as many wait already. What waits is worked off without anybody's help, so every such wait ends.
    `beside`: processes that the work may be given to; then there are as many threads as keep them busy.
    """

    def __init__(self, most_bytes: int = MOST_WAITING_BYTES, beside: ShapingProcesses | None = None) -> None:
        self.most_bytes = most_bytes
        self.beside = beside
        self.is_ended = False
        self._waiting_bytes = 0
        self._idle = 0
        self._changed = threading.Condition()
        self._todo: deque[tuple[Future[Any], Callable[[], Any], int]] = deque()
        self.threads = [
            threading.Thread(target=self._work, name=f"shaper_{number}", daemon=True)
            for number in range(1 if beside is None else beside.most_questions)
        ]
        for thread in self.threads:
            thread.start()

    def submit(self, work: Callable[[], T], size: int = 0) -> Future[T]:
        """Have it done after all that was submitted before. `size`: bytes that it holds. Once the shaper has ended, the result is cancelled."""
        done: Future[T] = Future()
        with self._changed:
            # A piece that is larger than all the room comes in alone.
            self._changed.wait_for(
                lambda: (
                    self.is_ended
                    or not self._waiting_bytes
                    or self._waiting_bytes + size <= self.most_bytes
                    or not size
                )
            )
            if self.is_ended:
                done.cancel()
                return done
            self._todo.append((done, work, size))
            self._waiting_bytes += size
            self._changed.notify_all()
        return done

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits, and somebody waits for work."""
        return not self._todo and self._idle > 0

    def _work(self) -> None:
        while True:
            with self._changed:
                self._idle += 1
                self._changed.wait_for(lambda: self.is_ended or self._todo)
                self._idle -= 1
                if self.is_ended:
                    return
                done, work, size = self._todo.popleft()
            _do(work, done)
            del done, work  # and with them the pages and what was made of them, before the next piece is waited for
            with self._changed:
                self._waiting_bytes -= size
                self._changed.notify_all()

    def end(self) -> None:
        """Begin nothing more, cancel what waits, wake whoever waits for room. What is being done goes on to its end; `threads` end after it."""
        with self._changed:
            self.is_ended = True
            waiting = list(self._todo)
            self._todo.clear()
            self._changed.notify_all()
        for done, _, _ in waiting:
            done.cancel()
